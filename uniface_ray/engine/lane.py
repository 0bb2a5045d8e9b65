"""One kind of work on one model: who waits, who runs, and what happens to the others when a row fails."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.failures import broken_process, is_out_of_memory
from uniface_ray.engine.scheduler import Scheduler

# Origins whose work failed, with nothing in between that went on: then it is the model, not they.
_FAILURES = 8


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

    @property
    def origin(self) -> Hashable:
        """What it shares with work that is likely to fail where it does: questions about one picture, its name."""
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

    def __init__(self, runner: Runner[W], slots: int, most_entering: int | Callable[[Iterable[W]], int]) -> None:
        """Make an empty lane.

        Args:
            runner: does the work.
            slots: how many requests run at once.
            most_entering: how many, or how many of those who wait, may enter in one step, which bounds what those who
                run have to wait.
        """
        self.runner = runner
        self.scheduler: Scheduler[W] = Scheduler(slots)
        self.most_entering = (lambda _: most_entering) if isinstance(most_entering, int) else most_entering
        self._enter = _InParts(runner.enter)
        self._advance = _InParts(runner.advance)
        self._failing: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self.scheduler.running) + len(self.scheduler.waiting)

    @broken_process()
    def drop(self, is_gone: Callable[[W], bool]) -> None:
        """Let go of work, wherever it is; its slots are free at once."""
        self.scheduler.forget(is_gone)
        self._leave(is_gone)

    @broken_process()
    def step(self) -> list[tuple[W, Reject | None]]:
        """Let waiting work enter, and do one step of all that runs.

        Returns:
            The work that ended, with the reason where it failed.

        Raises:
            UniFaceError: work of several origins has failed, and none went on in between: then the model is broken.
            BrokenProcessError: this process can do nothing more.
        """
        entering = self.scheduler.admit(self.most_entering(self.scheduler.waiting), self.runner.order)
        failed = self._enter(entering, len(self.scheduler.running) - len(entering))
        failing = {one.origin for one in entering if one.id in failed}
        ended = self._end(failed)
        running = list(self.scheduler.running)
        failed = self._advance(running, 0)
        failing |= {one.origin for one in running if one.id in failed}
        # Whatever went on shows that the model works, however many others failed beside it.
        self._failing = set() if len(failed) < len(running) else self._failing | failing
        if failing and len(self._failing) >= _FAILURES:
            last = next(reject for reject in (*failed.values(), *(reject for _, reject in ended)) if reject)
            raise UniFaceError(
                f"the model answers none of {len(self._failing)} requests one after the other, so it is not they: "
                f"{last.message}"
            )
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


class _InParts(Generic[W]):
    """A call for all work, or for halves of it: one that fails is found, and what is too large for memory fits.

    What fitted once more did not is remembered: the next call need not run out of memory to find it.
    """

    def __init__(self, call: Callable[[Sequence[W], int], None]) -> None:
        self.call = call
        self.most: int | None = None

    def __call__(self, work: Sequence[W], first: int) -> dict[int, Reject]:
        """Rejects by id; `first` is the slot of the first of `work`."""
        if self.most and len(work) > self.most:
            starts = range(0, len(work), self.most)
            return self._each([(work[start : start + self.most], first + start) for start in starts])
        if not work:
            return {}
        try:
            self.call(work, first)
            return {}
        except torch.AcceleratorError:  # which no smaller batch would help
            raise
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            if len(work) == 1:
                kind = RejectKind.OUT_OF_MEMORY if out_of_memory else RejectKind.MODEL_ERROR
                return {work[0].id: Reject(kind, f"{type(error).__name__}: {error}", "engine", attempts=2)}
        middle = len(work) // 2
        failed = self._each([(work[:middle], first), (work[middle:], first + middle)])
        # Where one request alone was too large, the size of the batch was not at fault.
        if out_of_memory and not any(one.kind == RejectKind.OUT_OF_MEMORY for one in failed.values()):
            self.most = min(middle, self.most or middle)
        return failed

    def _each(self, parts: Sequence[tuple[Sequence[W], int]]) -> dict[int, Reject]:
        return {number: reject for part, first in parts for number, reject in self(part, first).items()}


__all__ = ["Lane", "Runner", "Work"]
