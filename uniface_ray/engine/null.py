"""An engine that does nothing, at once: for measuring, and for testing, all that is around a model."""

from collections.abc import Sequence

import numpy as np

from uniface_ray.core.records import Reject
from uniface_ray.engine.protocol import (
    Ask,
    Draw,
    Drawing,
    Encode,
    Encoded,
    Likelihood,
    Look,
    Request,
    Result,
    Seen,
    Text,
)

IMAGE_SIZE = 256  # in pixels of a side of what it takes, as Show-o does
_SIDE = 8  # of drawings: to encode larger ones would take longer than everything else


class NullEngine:
    """See `protocol.Engine`.

    Texts are empty or a choice, drawings black and small, scores a half, and an image is one code.
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self._black = np.zeros((3, _SIDE, _SIDE), np.uint8)
        self._done: list[tuple[int, Result | Reject]] = []
        self._next = 0

    def submit(self, request: Request) -> int:
        self._next += 1
        self._done.append((self._next, self._answer(request)))
        return self._next

    def step(self) -> list[tuple[int, Result | Reject]]:
        done, self._done = self._done, []
        return done

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        return []

    def cancel(self, number: int) -> None:
        self._done = [one for one in self._done if one[0] != number]

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result | Reject:
        match request:
            case Ask():
                return Text(request.choices[0] if request.choices else "", 0)
            case Draw():
                return Drawing(self._black, "")
            case Encode():
                return Encoded(np.zeros(1, np.int32), {})
            case Look():
                return Seen({}, None)
            case _:
                return Likelihood(0.5, float(np.log(0.5)), float(np.log(0.5)))
