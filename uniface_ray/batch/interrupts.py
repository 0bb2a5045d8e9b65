"""Signals: the first asks a run to end well, a second one ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from uniface_ray.core.errors import UniFaceError


class InterruptedRunError(UniFaceError):
    """A signal ended the run; the same command resumes it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}; the same command goes on where it stopped")
        self.exit_code = 128 + number


@dataclass(slots=True)
class Asked:
    """Whether somebody asked the run to end.

    Attributes:
        number: of the signal; None where nobody did.
        patient: the run can finish what is under way; else a signal ends it on the spot.
    """

    number: int | None = None
    patient: bool = False


@contextmanager
def interrupts() -> Iterator[Asked]:
    """Take SIGINT and SIGTERM while the run lasts.

    Signals belong to the main thread: a run in another one leaves them to its caller.
    """
    asked = Asked()

    def take(number: int, _: FrameType | None) -> None:
        again, asked.number = asked.number is not None, number
        if again or not asked.patient:
            raise InterruptedRunError(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
