"""Signals: the first asks a run to end well, a second one ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from uniface_ray.core.errors import UniFaceError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        ended: a signal has done so.
    """

    number: int | None = None
    patient: bool = False
    ended: bool = False

    def listen(self) -> None:
        """Take SIGINT and SIGTERM from now on, whoever had them.

        Signals belong to the main thread: a run in another one leaves them to its caller.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._take)

    def _take(self, number: int, _: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again or not self.patient:
            self.ended = True
            raise InterruptedRunError(number)


@contextmanager
def interrupts() -> Iterator[Asked]:
    """Take SIGINT and SIGTERM while the run lasts."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    asked = Asked()
    asked.listen()
    try:
        yield asked
    except Exception as error:
        if asked.ended and asked.number is not None:  # C code that the signal came into raises an error of its own
            raise InterruptedRunError(asked.number) from error
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
