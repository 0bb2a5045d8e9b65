"""`/v1/batches`: an uploaded file of requests becomes runs of our own pipeline."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_command import SECRETS
from uniface_ray.serve.batch_folder import ENDED, MOST_ATTEMPTS, BatchFolder
from uniface_ray.serve.batch_lines import Endpoint
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.files import page, store_in, store_of
from uniface_ray.serve.launching import Processes, RayJobs
from uniface_ray.serve.store import new_id
from uniface_ray.serve.threads import STORAGE, run_in

_LOG = logging.getLogger(__name__)
_DAY_S = 86400
# A process that works on a batch says so every few seconds; after so long without, another one may.
SILENCE_S = 120.0
_TEND_S = 10.0
_SWEEP_S = 3600.0
_TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "output_file_id",
    "error_file_id",
    "errors",
)
_Name = Annotated[str, Field(max_length=64)]


class BatchRequest(BaseModel):
    """The body of a request to create one.

    Attributes:
        input_file_id: of a file with the purpose `batch`.
        endpoint: that every line of it names.
        completion_window: after which what is not done is given up.
        metadata: the client's own notes.
    """

    model_config = ConfigDict(extra="forbid")
    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Annotated[dict[_Name, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None


class Batches:
    """The batches of a server.

    Args:
        config: of the server.
        folder: that keeps them.
        image_sizes: of the models, by name.
        start: starts a process that works on a batch, for the n-th time: `batch_work.work`.
    """

    def __init__(
        self,
        config: ServeConfig,
        folder: Folder,
        image_sizes: dict[str, int],
        start: Callable[[BatchFolder, int], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._image_sizes = image_sizes
        self._start = start

    def create(self, owner: str, asked: BatchRequest) -> dict[str, Any]:
        """A new batch.

        Raises:
            ApiError: 413, its owner has no room for what it will give out.
        """
        store_in(self._config, owner).check_room("input_file_id")
        now = int(time.time())
        hidden = {"storage": set(SECRETS), "guard": {"keys"}}
        request = {
            "input_file_id": asked.input_file_id,
            "endpoint": asked.endpoint,
            "completion_window": asked.completion_window,
            "metadata": asked.metadata,
            "created_at": now,
            "expires_at": now + _DAY_S,
            "config": self._config.model_dump(mode="json", exclude=hidden),
            "image_sizes": self._image_sizes,
        }
        batch = BatchFolder(self._folder, owner, new_id("batch_"))
        batch.create(request)
        return to_api(batch)

    def find(self, owner: str, number: str) -> BatchFolder:
        """A batch of an owner.

        Raises:
            ApiError: 404, it has no such batch.
        """
        batch = BatchFolder(self._folder, owner, number)
        batch.request()
        return batch

    def cancel(self, owner: str, number: str) -> dict[str, Any]:
        """Ask for a batch's end: what is done by then is given out.

        Raises:
            ApiError: 404, the owner has no such batch; 409, it has ended.
        """
        batch = self.find(owner, number)
        status = batch.state()["status"]
        if status in ENDED:
            raise ApiError(409, f"the batch is {status}: there is nothing to cancel", code="batch_ended")
        batch.cancel()
        if batch.last_sign_s() is None:  # nobody has begun
            batch.tell({**batch.state(), "status": "cancelled", "cancelled_at": int(time.time())})
        return to_api(batch)

    def list(self, owner: str, limit: int, after: str | None = None) -> dict[str, Any]:
        """A page of an owner's, the newest first.

        Raises:
            ApiError: 400, there is no `after`.
        """
        found = {batch.id: batch for batch in BatchFolder.of_owner(self._folder, owner)}
        return page([*found], lambda number: to_api(found[number]) if found[number].is_whole else None, limit, after)

    def tend(self) -> None:
        """Start work on batches that nobody works on, as many at a time as may be."""
        running = 0
        idle = []
        for batch in BatchFolder.all_open(self._folder):
            sign_s = batch.last_sign_s()
            if sign_s is not None and sign_s < SILENCE_S:
                running += 1
            else:
                idle.append(batch)
        for batch in idle[: max(0, self._config.files.running - running)]:
            self._begin(batch)

    def _begin(self, batch: BatchFolder) -> None:
        number = batch.attempts() + 1
        if not batch.begin(number):
            return  # another server did
        if number > MOST_ATTEMPTS + 1:
            what = f"the process that worked on it ended {number - 1} times before it was done"
            errors = {
                "object": "list",
                "data": [{"code": "internal_error", "message": what, "line": None, "param": None}],
            }
            batch.tell({**batch.state(), "status": "failed", "failed_at": int(time.time()), "errors": errors})
            return
        try:
            self._start(batch, number)
        except Exception:
            _LOG.exception("the work on %s cannot be started", batch.id)

    def sweep(self) -> None:
        """Remove what is older than `files.keep_days`, of all owners: those too whose keys are none any more."""
        old = time.time() - self._config.files.keep_days * _DAY_S
        for owner in {entry.name.split("/")[1] for entry in self._folder.walk("owners")}:
            store_in(self._config, owner).sweep()
            for batch in BatchFolder.of_owner(self._folder, owner):
                # One that is not whole was being removed when its server ended.
                if not batch.is_whole or (batch.state()["status"] in ENDED and batch.request()["created_at"] < old):
                    batch.delete()


def to_api(batch: BatchFolder) -> dict[str, Any]:
    """The batch object of OpenAI's API."""
    request, state = batch.request(), batch.state()
    asked_at = batch.cancelled_at
    if asked_at and state["status"] not in ENDED:
        state = {**state, "status": "cancelling", "cancelling_at": asked_at}
    kept = ("endpoint", "input_file_id", "completion_window", "created_at", "expires_at", "metadata")
    return {
        "id": batch.id,
        "object": "batch",
        **{name: request[name] for name in kept},
        **{name: state.get(name) for name in _TIMES},
        "status": state["status"],
        "request_counts": state.get("request_counts", {"total": 0, "completed": 0, "failed": 0}),
    }


def add_batches(app: FastAPI, config: ServeConfig, image_sizes: dict[str, int]) -> None:
    """The routes, and `app.state.batches`: None where `files.path` is not set."""
    app.include_router(batches_router())
    app.state.tending = asyncio.Event()
    app.state.batches = None
    if config.files.path is not None:
        start = (RayJobs if config.files.jobs else Processes)(config).start
        app.state.batches = Batches(config, Folder(config.files.path, config.storage), image_sizes, start)


async def tend(app: FastAPI) -> None:
    """See that somebody works on every batch, now and again and whenever there is a new one."""
    while True:
        app.state.tending.clear()
        try:
            await run_in(STORAGE, app.state.batches.tend)
        except Exception:
            _LOG.exception("batches cannot be looked after")
        with suppress(TimeoutError):
            await asyncio.wait_for(app.state.tending.wait(), _TEND_S)


async def sweep(app: FastAPI) -> None:
    """Remove what is old, now and again."""
    while True:
        try:
            await run_in(STORAGE, app.state.batches.sweep)
        except Exception:
            _LOG.exception("old files and batches cannot be removed")
        await asyncio.sleep(_SWEEP_S)


def batches_router() -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/batches")
    async def create(request: Request, body: BatchRequest) -> dict[str, Any]:
        store, batches = store_of(request), _batches(request)
        record = await run_in(STORAGE, store.get, body.input_file_id)
        if record.purpose != "batch":
            what = f"input_file_id: the file's purpose is {record.purpose}, and must be batch"
            raise ApiError(400, what, param="input_file_id", code="invalid_value")
        made = await run_in(STORAGE, batches.create, store.owner, body)
        request.app.state.tending.set()
        return made

    @router.get("/v1/batches")
    async def list_batches(
        request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: str | None = None
    ) -> dict[str, Any]:
        return await run_in(STORAGE, _batches(request).list, store_of(request).owner, limit, after)

    @router.get("/v1/batches/{batch_id}")
    async def get(request: Request, batch_id: str) -> dict[str, Any]:
        batches, owner = _batches(request), store_of(request).owner
        return await run_in(STORAGE, lambda: to_api(batches.find(owner, batch_id)))

    @router.post("/v1/batches/{batch_id}/cancel")
    async def cancel(request: Request, batch_id: str) -> dict[str, Any]:
        batches, owner = _batches(request), store_of(request).owner

        return await run_in(STORAGE, batches.cancel, owner, batch_id)

    return router


def _batches(request: Request) -> Batches:
    store_of(request)  # or there are none
    batches: Batches = request.app.state.batches
    return batches


__all__ = ["SILENCE_S", "BatchRequest", "Batches", "add_batches", "batches_router", "sweep", "tend", "to_api"]
