"""`/v1/images/generations` and `/v1/images/edits`: faces drawn from prompts, and parts of pictures drawn anew."""

import base64
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from uniface_ray.core.records import Reject, seed_of
from uniface_ray.core.task_config import DrawingConfig
from uniface_ray.engine.protocol import Draw, Drawing
from uniface_ray.serve.edits import EDIT_BODIES, edit_of, region_of
from uniface_ray.serve.errors import ApiError, rejected
from uniface_ray.serve.images_schema import ImagesRequest
from uniface_ray.serve.models import Served
from uniface_ray.serve.streams import events, together, while_connected
from uniface_ray.serve.threads import WORK, run_in
from uniface_ray.tasks.drawing import draw, drawn_values


def images_router() -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/images/generations", response_model=None)
    async def generate(body: ImagesRequest, request: Request) -> Response | dict[str, Any]:
        return await _answer(request, _drawings(body, request, "image_generation"), bool(body.stream))

    @router.post("/v1/images/edits", response_model=None, openapi_extra=EDIT_BODIES)
    async def edit(request: Request) -> Response | dict[str, Any]:
        body, image, where = await edit_of(request)
        drawings = _drawings(body, request, "image_edit")
        pixels, region = await region_of(image, where, request.app.state.pictures, drawings.model.image_size)
        drawings.asks = [replace(one, pixels=pixels, mask=region) for one in drawings.asks]
        return await _answer(request, drawings, bool(body.stream))

    return router


@dataclass(slots=True)
class _Drawings:
    """A request and its images.

    Attributes:
        model: draws them.
        name: of the model.
        asks: one for each image.
        settings: of all.
        kind: of its events.
    """

    model: Served
    name: str
    asks: list[Draw]
    settings: DrawingConfig
    kind: Literal["image_generation", "image_edit"]
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> dict[str, Any]:
        """All images, when they are done."""
        done: dict[int, tuple[Drawing, str]] = {}
        async with aclosing(self._news()) as news:
            async for index, drawing, image, _ in news:
                done[index] = (drawing, image)
        data = [
            {"b64_json": image, "revised_prompt": self.asks[index].prompt.strip().removesuffix(drawing.cut).strip()}
            for index, (drawing, image) in sorted(done.items())
        ]
        return {"created": self.created, "data": data, **self._facts(), "usage": _usage([d for d, _ in done.values()])}

    async def stream(self) -> AsyncGenerator[dict[str, Any]]:
        """Events: unfinished images as they come, and the images."""
        seen = [0] * len(self.asks)
        async with aclosing(self._news()) as news:
            async for index, drawing, image, last in news:
                kind = "completed" if last else "partial_image"
                event = {"type": f"{self.kind}.{kind}", "b64_json": image, "created_at": self.created, **self._facts()}
                if last:
                    event["usage"] = _usage([drawing])
                else:
                    event["partial_image_index"] = seen[index]
                    seen[index] += 1
                yield event | ({"index": index} if len(self.asks) > 1 else {})

    async def _news(self) -> AsyncGenerator[tuple[int, Drawing, str, bool]]:
        """(image, the drawing, its file in base64, whether it is done), of all images as it comes."""
        async with aclosing(together([self.model.ask(one) for one in self.asks])) as streams:
            async for index, news in streams:
                if isinstance(news.outcome, Reject):
                    raise rejected(news.outcome, "prompt")
                assert isinstance(news.outcome, Drawing)
                yield index, news.outcome, await self._encoded(index, news.outcome), news.last

    async def _encoded(self, index: int, drawing: Drawing) -> str:
        """The very file that a batch run writes."""
        values = await run_in(WORK, drawn_values, self.settings, self.name, self.asks[index], drawing, 0, index)
        return base64.b64encode(values["image"]).decode()

    def _facts(self) -> dict[str, str]:
        size = f"{self.model.image_size}x{self.model.image_size}"
        return {"background": "opaque", "output_format": self.settings.format, "quality": "auto", "size": size}


def _usage(drawings: Sequence[Drawing]) -> dict[str, Any]:
    prompts, images = sum(one.prompt_tokens for one in drawings), sum(one.tokens for one in drawings)
    return {
        "input_tokens": prompts,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": prompts},
        "output_tokens": images,
        "total_tokens": prompts + images,
    }


async def _answer(request: Request, drawings: _Drawings, stream: bool) -> Response | dict[str, Any]:
    if stream:
        return await events(request, drawings.stream())
    return await while_connected(request, drawings.whole())


def _drawings(body: ImagesRequest, request: Request, kind: Literal["image_generation", "image_edit"]) -> _Drawings:
    """What a request asks for.

    Raises:
        ApiError: it cannot be asked.
    """
    name, model = request.app.state.models.pick(body.model)
    own = f"{model.image_size}x{model.image_size}"
    if body.size not in (None, "auto", own):
        what = f"size: {name} draws {own}, and {body.size!r} is not that; leave it out, or say auto"
        raise ApiError(400, what, param="size", code="invalid_size")
    model.check_room(draws=True)
    settings = body.drawing
    seed = secrets.randbits(63) if body.seed is None else body.seed & (2**63 - 1)
    limits = {
        "time_limit_s": request.app.state.config.serve.timeout_s,
        "partials": (body.partial_images or 0) if body.stream else 0,
    }
    asks = [
        replace(draw(settings, body.prompt, seed_of(seed, number) if number else seed), **limits)
        for number in range(body.n or 1)
    ]
    return _Drawings(model, name, asks, settings, kind)


__all__ = ["images_router"]
