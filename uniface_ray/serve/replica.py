"""One replica of a model: its engine at work, and newer weights in its place without a request lost."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from uniface_ray.core.config import ModelConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.engine.protocol import Request
from uniface_ray.serve.catalogue import check, files_of
from uniface_ray.serve.loop import EngineLoop
from uniface_ray.serve.models import News

_LOG = logging.getLogger(__name__)


class Replica:
    """See `models.Served`."""

    def __init__(self, config: ServeConfig, model: ModelConfig, make: Callable[[ModelConfig], EngineLoop]) -> None:
        """Load the model.

        Args:
            config: of the server.
            model: which one.
            make: puts a model to work (`catalogue.build_loop`).
        """
        self.model = model
        self._files = files_of(config, model)  # before they are read: what changes meanwhile is newer
        self.fingerprint = check(config, model).fingerprint
        self._config = config
        self._make = make
        self.loop = self._make(model)
        self.image_size = self.loop.image_size
        self._reloading = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()

    async def ask(self, request: Request) -> AsyncGenerator[News]:
        """See `models.Served`."""
        async for news in self.loop.ask(request):
            yield news

    def check_room(self, draws: bool) -> None:
        """See `models.Served`."""
        self.loop.check_room(draws)

    async def ready(self) -> bool:
        """See `models.Served`."""
        return await self.loop.ready()

    def check(self) -> None:
        """Look at the engine.

        Raises:
            RuntimeError: it has failed or hangs; a new replica is needed.
        """
        if trouble := self.loop.trouble(self._config.engine.timeout_s):
            raise RuntimeError(trouble)

    async def reload(self, path: str | None = None) -> str:
        """Take the weights that are at `path` now (None: where they were), for requests that come from then on.

        Those under way end with the weights they began with; both are in memory until then. Weights that cannot be used
        leave the old ones at work.

        Returns:
            The fingerprint of the weights at work.

        Raises:
            UserError: the weights cannot be used.
        """
        async with self._reloading:
            model = self.model if path is None else self.model.model_copy(update={"path": path})
            files = await asyncio.to_thread(files_of, self._config, model)
            checked = await asyncio.to_thread(check, self._config, model)
            if checked.image_size != self.image_size:
                raise UserError(
                    f"{model.path} holds a model of {checked.image_size}-pixel images, but {model.name} serves those "
                    f"of {self.image_size}: give it a name of its own in serve.models, and start the server again"
                )
            if (checked.fingerprint, files) == (self.fingerprint, self._files):
                return self.fingerprint
            new = await asyncio.to_thread(self._make, model)
            self._files = files
            old, self.loop, self.model, self.fingerprint = self.loop, new, model, checked.fingerprint
            draining = asyncio.create_task(old.drain())
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)
            _LOG.warning("%s: the weights %s are at work", model.name, self.fingerprint[:12])
            return self.fingerprint


__all__ = ["Replica"]
