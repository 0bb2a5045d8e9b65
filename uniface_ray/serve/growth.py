"""An answer that grows, told piece by piece, up to a stop text."""

from collections.abc import Sequence
from dataclasses import dataclass

from uniface_ray.serve.errors import ApiError


@dataclass(slots=True)
class Growth:
    """What of an answer has been told.

    What may yet turn out to be the beginning of a stop text, or is a part of a character, is held back.

    Attributes:
        stops: the answer ends before the first of these texts that is whole.
        final: nobody sees a piece before the last one, so that an answer that begins anew may be another.
        told: of the answer so far.
        stopped: one of `stops` has come.
    """

    stops: Sequence[str] = ()
    final: bool = False
    told: str = ""
    stopped: bool = False

    def more(self, text: str, last: bool) -> str:
        """What to tell now.

        Args:
            text: all of the answer as it is known.
            last: it is all there is. Answers begin anew where a replica was lost; most come to the same words again.

        Raises:
            ApiError: this one does not.
        """
        if self.final:
            self.told = ""
        # The one that is whole first, so that it does not matter in which pieces the text has come.
        found = [(place + len(stop), place) for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            text, self.stopped = text[: min(found)[1]], True
        elif not last:
            text = text.rstrip("\ufffd").rstrip()  # blanks at the end of all of it are none of it
            text = text[: len(text) - max((_held(text, stop) for stop in self.stops), default=0)]
        again = not (last or self.stopped) and self.told.startswith(text)
        if not (again or text.startswith(self.told)):
            what = "the replica of this answer was lost, and another one does not come to the same words; ask again"
            raise ApiError(503, what, code="answer_changed")
        new = text[len(self.told) :]
        self.told += new
        return new


def _held(text: str, stop: str) -> int:
    """How many of the last characters of `text` are the first ones of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:])), 0)


__all__ = ["Growth"]
