"""Who waits, and who runs in which slot."""

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

S = TypeVar("S")


class Scheduler(Generic[S]):
    """First come, first served. Slot i is that of `running[i]`: those who run have the first slots, without holes."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.waiting: deque[S] = deque()
        self.running: list[S] = []

    def add(self, sequence: S) -> None:
        """Let it wait for a slot."""
        self.waiting.append(sequence)

    def admit(self, most: int, order: Callable[[S], Any]) -> list[S]:
        """Give free slots to those who wait longest: the slots after the last running one, in the order wanted."""
        count = min(most, self.slots - len(self.running), len(self.waiting))
        entering = sorted((self.waiting.popleft() for _ in range(count)), key=order)
        self.running += entering
        return entering

    def forget(self, is_gone: Callable[[S], bool]) -> None:
        """Let nobody wait any more who is gone."""
        self.waiting = deque(one for one in self.waiting if not is_gone(one))

    def leave(self, is_gone: Callable[[S], bool]) -> tuple[list[S], list[int]]:
        """Free the slots of those who are gone; the last ones who run move into the holes.

        Returns:
            Those who left; and for each slot in use, which one its request had before.
        """
        left = [one for one in self.running if is_gone(one)]
        stay = [slot for slot, one in enumerate(self.running) if not is_gone(one)]
        slots = list(range(len(stay)))
        holes = sorted(set(slots) - set(stay))
        for source, hole in zip(stay[len(stay) - len(holes) :], holes, strict=True):
            slots[hole] = source
        self.running = [self.running[slot] for slot in slots]
        return left, slots
