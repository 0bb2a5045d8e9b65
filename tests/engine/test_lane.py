"""What failures mean: a bad row, its siblings, a batch too large for memory, or a broken model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from uniface_ray.core.errors import BrokenProcessError, UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.lane import Lane


@dataclass(eq=False)
class One:
    id: int
    origin: int
    done: bool = False


@dataclass
class Runner:
    """Work of one step, which fails as it is told to."""

    fails: Callable[[Sequence[One]], Exception | None]
    calls: list[int] = field(default_factory=list)

    def order(self, one: One) -> int:
        return one.id

    def enter(self, entering: Sequence[One], first: int) -> None:
        pass

    def advance(self, running: Sequence[One], first: int) -> None:
        self.calls.append(len(running))
        if error := self.fails(running):
            raise error
        for one in running:
            one.done = True

    def collect(self) -> None:
        pass

    def keep(self, slots: Sequence[int]) -> None:
        pass


def run(runner: Runner, work: Sequence[One], slots: int) -> dict[int, Reject | None]:
    lane = Lane(runner, slots, slots)
    for one in work:
        lane.scheduler.add(one)
    outcomes: dict[int, Reject | None] = {}
    while len(lane):
        outcomes |= {one.id: reject for one, reject in lane.step()}
    return outcomes


def poisoned(*origins: int) -> Callable[[Sequence[One]], Exception | None]:
    return lambda running: ValueError("poison") if any(one.origin in origins for one in running) else None


@pytest.mark.parametrize("slots", [1, 4, 100])
def test_the_siblings_of_a_bad_row_fail_together_and_cost_no_other(slots: int) -> None:
    siblings = [One(number, origin=0) for number in range(30)]
    others = [One(number, origin=number) for number in range(30, 40)]
    outcomes = run(Runner(poisoned(0)), siblings + others, slots)
    assert [number for number, reject in outcomes.items() if reject] == list(range(30))
    assert {reject.kind for reject in outcomes.values() if reject} == {RejectKind.MODEL_ERROR}


@pytest.mark.parametrize("slots", [1, 4, 100])
def test_a_model_that_does_nothing_any_more_is_noticed_in_any_batch(slots: int) -> None:
    with pytest.raises(UniFaceError, match=r"answers none of \d+ requests one after the other.*ValueError: poison"):
        run(Runner(poisoned(*range(20))), [One(number, number) for number in range(20)], slots)


@pytest.mark.parametrize("slots", [1, 4, 9, 60])
def test_bad_rows_between_good_ones_are_just_bad_rows(slots: int) -> None:
    work = [One(number, number) for number in range(60)]
    outcomes = run(Runner(poisoned(*(number for number in range(60) if number % 7))), work, slots)
    assert sum(reject is None for reject in outcomes.values()) == 9


def cpu_is_full() -> Exception:
    """The error of torch where the machine's memory is full."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    return raised.value


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), cpu_is_full(), MemoryError()])
def test_what_fitted_into_memory_is_remembered(error: Exception) -> None:
    runner = Runner(lambda running: error if len(running) > 3 else None)
    outcomes = run(runner, [One(number, number) for number in range(32)], 8)
    assert not any(outcomes.values())
    assert sum(size > 3 for size in runner.calls) == 2  # 8 and 4, once each


def test_a_replica_in_whose_memory_nothing_fits_is_not_started_again() -> None:
    with pytest.raises(UniFaceError, match="answers none of 8 requests") as raised:
        run(Runner(lambda _: cpu_is_full()), [One(number, number) for number in range(8)], 8)
    assert not isinstance(raised.value, BrokenProcessError)


def test_a_request_that_is_too_large_alone_does_not_make_others_go_one_by_one() -> None:
    runner = Runner(lambda running: torch.OutOfMemoryError("full") if any(one.id == 2 for one in running) else None)
    outcomes = run(runner, [One(number, number) for number in range(24)], 8)
    assert {number: reject.kind for number, reject in outcomes.items() if reject} == {2: RejectKind.OUT_OF_MEMORY}
    assert runner.calls[-2:] == [8, 8]


def test_a_device_that_failed_ends_the_process() -> None:
    with pytest.raises(BrokenProcessError, match="the device of this replica failed"):
        run(Runner(lambda _: torch.AcceleratorError("gone")), [One(0, 0)], 1)


@pytest.mark.parametrize("error", [torch.AcceleratorError("gone"), torch.OutOfMemoryError("full"), cpu_is_full()])
@pytest.mark.parametrize("method", ["collect", "keep"])
def test_what_fails_between_two_batches_ends_the_process(
    method: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    runner = Runner(lambda _: None)
    monkeypatch.setattr(runner, method, fails)
    lane = Lane(runner, 2, 2)
    lane.scheduler.add(One(0, 0))
    with pytest.raises(BrokenProcessError, match="of this replica"):
        lane.step()
    if method == "keep":
        lane.scheduler.running.append(One(1, 1))
        with pytest.raises(BrokenProcessError, match="of this replica"):
            lane.drop(lambda one: one.id == 1)
