"""One worker of Ray Train: a thin shell around `loop.train`."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.actor import ActorHandle

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.storage_errors import sink_failed
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.base import Base
from uniface_ray.train.hooks import Hooks, Outcome
from uniface_ray.train.loop import train
from uniface_ray.train.parallel import World

_ASK_EVERY_S = 0.5
# Workers that have not asked for so long are gone, or were never there.
_SILENT_S = 30.0
# Asking about preemption makes all workers wait for each other; warnings come half a minute ahead, or more.
_LEAVING_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker is given.

    Attributes:
        config: of the run.
        dtype: of the computation.
        sink: to write through, with the token of this run's lease.
        post: between workers and driver.
    """

    config: TrainConfig
    dtype: str
    sink: Fenced
    post: ActorHandle


class Post:
    """What driver and workers tell each other; an actor, so that it outlives workers."""

    def __init__(self) -> None:
        self._stopping = False
        self._heard_s: float | None = None
        self._records: list[dict[str, Any]] = []
        self._error: UniFaceError | None = None

    def stop(self) -> bool:
        """Ask the workers to save and end; whether there are any, by what was heard of them."""
        self._stopping = True
        return self._heard_s is not None and time.monotonic() - self._heard_s < _SILENT_S

    def is_stopping(self) -> bool:
        """Whether the driver has asked; workers ask all the time."""
        self._heard_s = time.monotonic()
        return self._stopping

    def tell(self, record: dict[str, Any]) -> None:
        """One record for the driver."""
        self._records.append(record)

    def take(self) -> list[dict[str, Any]]:
        """The records that have come since the last call."""
        taken, self._records = self._records, []
        return taken

    def fail(self, error: UniFaceError) -> None:
        """An error that another try would meet again; the first one counts."""
        self._error = self._error or error

    def error(self) -> UniFaceError | None:
        """What `fail` was given."""
        return self._error


def in_group(settings: dict[str, Work]) -> Outcome | None:
    """Train, from the last checkpoint; Ray Train calls it anew after a worker has died.

    Args:
        settings: `given`, the work.

    Returns:
        How it ended; None where an error is in the post.

    Raises:
        UniFaceError: put in the post first, so that the next group of workers does not try again.
    """
    given = settings["given"]
    if ray.get(given.post.error.remote()) is not None:
        return None
    config = given.config
    context = ray.train.get_context()
    torch.set_num_threads(config.parallel.threads or max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    asked, leaving = _Asked(given.post), _Leaving()
    hooks = Hooks(
        stopping=asked.is_stopping,
        due=leaving.is_due,
        leaving=leaving.is_leaving,
        tell=lambda record: given.post.tell.remote(record),
    )
    try:
        world = World(config.parallel, ray.train.torch.get_device(), getattr(torch, given.dtype))
        base = Base(config.model, config.storage)
        try:
            return train(config, base, world, given.sink, hooks)
        except OSError as error:
            raise sink_failed(given.sink.uri, error) from error
    except UniFaceError as error:
        ray.get(given.post.fail.remote(error))
        raise
    finally:
        asked.close()


class _Asked:
    """Asks in the background whether to stop, so that no step waits for the answer."""

    def __init__(self, post: ActorHandle) -> None:
        self._post = post
        self._closed = threading.Event()
        self._stopping = False
        threading.Thread(target=self._ask, name="asked", daemon=True).start()

    def is_stopping(self) -> bool:
        return self._stopping

    def close(self) -> None:
        self._closed.set()

    def _ask(self) -> None:
        with suppress(ray.exceptions.RayError):  # the driver is gone, and so is whoever waits for an answer
            while not self._stopping and not self._closed.wait(_ASK_EVERY_S):
                self._stopping = ray.get(self._post.is_stopping.remote())


class _Leaving:
    """Whether a node of the group is about to be taken away; true once."""

    def __init__(self) -> None:
        self._known = False
        self._asked_s = time.monotonic()

    def is_due(self) -> bool:
        return not self._known and time.monotonic() - self._asked_s >= _LEAVING_EVERY_S

    def is_leaving(self) -> bool:
        self._known = ray.train.get_preemption_info() is not None
        self._asked_s = time.monotonic()
        return self._known
