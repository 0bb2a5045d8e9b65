"""Slots are filled in order of arrival and never have holes."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from uniface_ray.engine.scheduler import Scheduler


@dataclass(eq=False)
class One:
    id: int


def ids(some: list[One]) -> list[int]:
    return [one.id for one in some]


def filled(slots: int, count: int) -> Scheduler[One]:
    scheduler: Scheduler[One] = Scheduler(slots)
    for number in range(count):
        scheduler.add(One(number))
    return scheduler


def test_those_who_wait_longest_enter_and_no_more_than_there_are_slots() -> None:
    scheduler = filled(4, 6)
    assert ids(scheduler.admit(3, order=lambda one: -one.id)) == [2, 1, 0]
    assert ids(scheduler.admit(9, order=lambda one: one.id)) == [3]
    assert ids(scheduler.running) == [2, 1, 0, 3]
    assert ids(list(scheduler.waiting)) == [4, 5]


def test_the_last_ones_move_into_the_holes_of_those_who_leave() -> None:
    scheduler = filled(5, 5)
    scheduler.admit(5, order=lambda one: one.id)
    left, slots = scheduler.leave(lambda one: one.id in (0, 3))
    assert (ids(left), slots) == ([0, 3], [4, 1, 2])
    assert ids(scheduler.running) == [4, 1, 2]


@given(st.integers(1, 6), st.lists(st.sets(st.integers(0, 11)), max_size=8))
def test_whoever_leaves_slots_and_sequences_stay_paired(slots: int, leaving: list[set[int]]) -> None:
    scheduler = filled(slots, 12)
    gone: list[int] = []
    held: list[int] = []  # what a cache would hold, by slot
    for some in leaving:
        held += ids(scheduler.admit(slots, order=lambda one: one.id))
        left, kept = scheduler.leave(lambda one, some=some: one.id in some)
        held = [held[slot] for slot in kept]
        gone += ids(left)
        assert len(scheduler.running) <= slots
        assert held == ids(scheduler.running)
    everybody = gone + ids(scheduler.running) + ids(list(scheduler.waiting))
    assert sorted(everybody) == list(range(12))


def test_who_waits_can_be_forgotten() -> None:
    scheduler = filled(2, 5)
    scheduler.admit(2, order=lambda one: one.id)
    scheduler.forget(lambda one: one.id in (0, 3))
    assert (ids(scheduler.running), ids(list(scheduler.waiting))) == ([0, 1], [2, 4])
