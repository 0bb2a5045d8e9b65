"""Who waits, and who runs in which slot."""

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Sequence(Protocol):
    """What a scheduler knows of a request under way."""

    id: int


S = TypeVar("S", bound=Sequence)


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

    def leave(self, is_gone: Callable[[S], bool]) -> tuple[list[S], list[tuple[int, int]]]:
        """Free the slots of those who are gone.

        Returns:
            Those who left, whether they ran or waited; and (from, to) slots of the running ones that move into holes.
        """
        left = [one for one in (*self.running, *self.waiting) if is_gone(one)]
        if not left:
            return [], []
        self.waiting = deque(one for one in self.waiting if not is_gone(one))
        stay = [slot for slot, one in enumerate(self.running) if not is_gone(one)]
        holes = sorted(set(range(len(stay))) - set(stay))
        moves = list(zip(stay[len(stay) - len(holes) :], holes, strict=True))
        for source, target in moves:
            self.running[target] = self.running[source]
        del self.running[len(stay) :]
        return left, moves
