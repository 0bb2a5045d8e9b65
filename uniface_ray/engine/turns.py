"""How answers and drawings share the time of one model: a step of drawing is long, and a reader of an answer waits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from uniface_ray.engine.failures import broken_process


class Turns:
    """After each step of drawing, answers have their part of the time before the next one."""

    def __init__(self, image_share: float | None, device: torch.device) -> None:
        """Nobody has had a turn yet.

        Args:
            image_share: part of the time for drawing, over 0 and under 1; None lets both go on in each step.
            device: whose time it is.
        """
        self._answers_s = 0.0 if image_share is None else (1 - image_share) / image_share
        self._device = device
        self._owed_s = 0.0

    def may_draw(self, answers: int) -> bool:
        """Whether it is drawing's turn, with so many answers under way or waiting."""
        return not answers or self._owed_s <= 0

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A turn of the answers."""
        start = time.monotonic()
        yield
        self._owed_s -= time.monotonic() - start  # a step of answers has waited for its tokens, on any device

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A turn of the drawings."""
        start = time.monotonic()
        yield
        if self._answers_s and self._device.type == "cuda":
            with broken_process():
                torch.cuda.synchronize(self._device)
        self._owed_s = self._answers_s * (time.monotonic() - start)


__all__ = ["Turns"]
