"""One kind of work on one model: who waits, who runs, and what happens to the others when a row fails."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from uniface_ray.core.errors import BrokenProcessError, UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.scheduler import Scheduler


class Work(Protocol):
    """A request under way."""

    @property
    def id(self) -> int:
        """Of the request."""
        ...

    @property
    def done(self) -> bool:
        """Nothing is left to do."""
        ...


W = TypeVar("W", bound=Work)
W_contra = TypeVar("W_contra", bound=Work, contravariant=True)


class Runner(Protocol[W_contra]):
    """The tensors of those who run, by slot. A call that raises may be made again, with fewer of them."""

    def order(self, one: W_contra) -> Any:
        """Key that sorts those who enter together."""
        ...

    def enter(self, entering: Sequence[W_contra], first: int) -> None:
        """Make the slots from `first` on ready for new work."""
        ...

    def advance(self, running: Sequence[W_contra], first: int) -> None:
        """One step of the work in the slots from `first` on."""
        ...

    def collect(self) -> None:
        """Tell all work what its last step has found; `done` is set where nothing is left to do."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """Only these slots stay, in this order."""
        ...


class Lane(Generic[W]):
    """A scheduler and a runner, step by step."""

    def __init__(self, runner: Runner[W], slots: int, most_entering: int) -> None:
        """Make an empty lane.

        Args:
            runner: does the work.
            slots: how many requests run at once.
            most_entering: how many may enter in one step, which bounds what those who run have to wait.
        """
        self.runner = runner
        self.scheduler: Scheduler[W] = Scheduler(slots)
        self.most_entering = most_entering

    def __len__(self) -> int:
        return len(self.scheduler.running) + len(self.scheduler.waiting)

    def drop(self, is_gone: Callable[[W], bool]) -> None:
        """Let go of work, wherever it is; its slots are free at once."""
        self.scheduler.forget(is_gone)
        self._leave(is_gone)

    def step(self) -> list[tuple[W, Reject | None]]:
        """Let waiting work enter, and do one step of all that runs.

        Returns:
            The work that ended, with the reason where it failed.

        Raises:
            UniFaceError: none of several can be worked on: then the replica is broken, not they.
        """
        running = self.scheduler.running
        first = len(running)
        entering = self.scheduler.admit(self.most_entering, self.runner.order)
        count = len(running)
        failed = _in_parts(self.runner.enter, entering, first)
        ended = self._end(failed)
        failed |= _in_parts(self.runner.advance, self.scheduler.running, 0)
        if len(failed) == count > 1:
            raise UniFaceError(f"the model answers none of {count} requests: {next(iter(failed.values()))}")
        self.runner.collect()
        return ended + self._end(failed)

    def _end(self, failed: Mapping[int, Reject]) -> list[tuple[W, Reject | None]]:
        left = self._leave(lambda one: one.done or one.id in failed)
        return [(one, failed.get(one.id)) for one in left]

    def _leave(self, is_gone: Callable[[W], bool]) -> list[W]:
        left, slots = self.scheduler.leave(is_gone)
        if left:
            self.runner.keep(slots)
        return left


def _in_parts(call: Callable[[Sequence[W], int], None], work: Sequence[W], first: int) -> dict[int, Reject]:
    """`call` for all of `work`, or for halves of it: one that fails is found, and what is too large for memory fits.

    Returns:
        Rejects by id.
    """
    if not work:
        return {}
    try:
        call(work, first)
        return {}
    except torch.AcceleratorError as error:
        raise BrokenProcessError(f"the device of this replica failed: {error}") from error
    except Exception as error:
        if len(work) == 1:
            out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
            kind = RejectKind.OUT_OF_MEMORY if out_of_memory else RejectKind.MODEL_ERROR
            return {work[0].id: Reject(kind, f"{type(error).__name__}: {error}", "engine", attempts=2)}
    middle = len(work) // 2
    return _in_parts(call, work[:middle], first) | _in_parts(call, work[middle:], first + middle)


__all__ = ["Lane", "Runner", "Work"]
