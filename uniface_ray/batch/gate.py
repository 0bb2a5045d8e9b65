"""A place where several may be at once, or one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Visit:
    """Somebody's stay. `crowded`: others were there at some time of it."""

    crowded: bool


class Gate:
    """Lets callers of several threads in."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visits: list[Visit] = []
        self._taken = False

    @contextmanager
    def together(self) -> Iterator[Visit]:
        """Beside others; waits while somebody is alone or wants to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            visit = Visit(bool(self._visits))
            for other in self._visits:
                other.crowded = True
            self._visits.append(visit)
        try:
            yield visit
        finally:
            with self._changed:
                self._visits.remove(visit)
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else; waits until all have left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._taken = True
            self._changed.wait_for(lambda: not self._visits)
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


__all__ = ["Gate", "Visit"]
