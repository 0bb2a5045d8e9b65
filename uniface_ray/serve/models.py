"""What answers requests online, by name; `/v1/models`, `/healthz`, `/readyz`."""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, Request

from uniface_ray.engine import protocol
from uniface_ray.serve.errors import ApiError


@dataclass(frozen=True, slots=True)
class News:
    """What a model has to say about a request.

    Attributes:
        outcome: the result as far as it is known; a reject is always the last word.
        last: nothing more comes.
    """

    outcome: protocol.Outcome
    last: bool


class Served(Protocol):
    """A model that takes requests while others are under way."""

    image_size: int
    """Side of the square of pixels that requests and results carry."""

    def ask(self, request: protocol.Request) -> AsyncGenerator[News]:
        """Answer a request: what is known of watched ones as it comes, and the outcome.

        Closing it, or cancelling whoever waits for it, takes the request back.

        Raises:
            ApiError: there is no room for it (429), or no replica (503).
        """
        ...

    def check_room(self, draws: bool) -> None:
        """Look before the work of reading a request is done whether another drawing, or else answer, could be taken.

        Raises:
            ApiError: 429, there is no room now.
        """
        ...

    async def ready(self) -> bool:
        """Whether it can take requests."""
        ...


class Models:
    """The models of a server."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self.by_name = dict(models)
        self.created = int(time.time())

    def pick(self, name: str | None) -> tuple[str, Served]:
        """The model that a request names; the first where it names none.

        Raises:
            ApiError: 404, there is no such model.
        """
        if name is None:
            return next(iter(self.by_name.items()))
        if name not in self.by_name:
            known = ", ".join(self.by_name)
            what = f"the model {name!r:.80} does not exist; this server has {known}"
            raise ApiError(404, what, param="model", code="model_not_found")
        return name, self.by_name[name]


async def outcome_of(model: Served, request: protocol.Request) -> protocol.Outcome:
    """The last word of a model on a request."""
    outcome: protocol.Outcome | None = None
    async for news in model.ask(request):
        outcome = news.outcome
    assert outcome is not None
    return outcome


def models_router() -> APIRouter:
    """Which models there are, and whether they work."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        models: Models = request.app.state.models
        return {"object": "list", "data": [_card(name, models) for name in models.by_name]}

    @router.get("/v1/models/{name}")
    async def get_model(name: str, request: Request) -> dict[str, Any]:
        models: Models = request.app.state.models
        return _card(models.pick(name)[0], models)

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready(request: Request) -> dict[str, str]:
        models: Models = request.app.state.models
        late = [name for name, model in models.by_name.items() if not await model.ready()]
        if late:
            raise ApiError(503, f"not ready: {', '.join(late)}", code="not_ready", headers={"Retry-After": "5"})
        return {"status": "ready"}

    return router


def _card(name: str, models: Models) -> dict[str, Any]:
    size = models.by_name[name].image_size
    return {
        "id": name,
        "object": "model",
        "created": models.created,
        "owned_by": "uniface_ray",
        "image_size": f"{size}x{size}",
    }


__all__ = ["Models", "News", "Served", "models_router", "outcome_of"]
