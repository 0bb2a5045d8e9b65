"""Work that takes one step, such as images to decode: all that runs goes through the model at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from uniface_ray.engine.image import ImageSequence
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range


@dataclass(slots=True, eq=False)
class CodesSequence:
    """Codes (N,) int64 that are not decoded yet; `pixels` uint8 (3, size, size) once they are, which is `done`.

    Attributes:
        drawn: whose image it is.
        finished: it is all drawn, no guess on the way.
    """

    drawn: ImageSequence
    codes: Tensor
    finished: bool = True
    pixels: Tensor | None = None
    done: bool = False

    @property
    def id(self) -> int:
        """Of the request."""
        return self.drawn.id

    @property
    def origin(self) -> int:
        """Images fail each on its own."""
        return self.drawn.id


class OneStep:
    """Nothing is kept from one step to the next."""

    def __init__(self, model: UniFaceForConditionalGeneration) -> None:
        self.model = model

    def order(self, one: Any) -> Any:
        """Any order is as good as another."""
        return 0

    def enter(self, entering: Sequence[object], first: int) -> None:
        """Nothing to prepare."""

    def collect(self) -> None:
        """`advance` has told the work already."""

    def keep(self, slots: Sequence[int]) -> None:
        """Nothing to move."""


class DecodeRunner(OneStep):
    """Codes to pixels, apart from the drawing: the image decoder has a batch of its own."""

    def advance(self, running: Sequence[CodesSequence], first: int) -> None:
        """Decode all of `running`."""
        codes = torch.stack([one.codes for one in running])
        pixels = from_model_range(self.model.decode_images(codes)).cpu()
        for one, picture in zip(running, pixels, strict=True):
            one.pixels, one.done = picture, True


__all__ = ["CodesSequence", "DecodeRunner", "OneStep"]
