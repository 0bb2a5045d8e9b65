"""Images to be turned into codes, and into what the encoders of the model's experts see of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from uniface_ray.core.records import Pixels
from uniface_ray.engine.one_step import OneStep
from uniface_ray.engine.pictures import stacked


@dataclass(slots=True, eq=False)
class EncodeSequence:
    """An image.

    Attributes:
        id: of the request.
        pixels: uint8 (3, size, size) RGB.
        features: are wanted too.
        codes: int32 (N,) once it is done.
        seen: float16 (M, width) by encoder, likewise.
        done: it is encoded.
    """

    id: int
    pixels: Pixels
    features: bool
    codes: NDArray[np.int32] | None = None
    seen: dict[str, NDArray[np.float16]] = field(default_factory=dict)
    done: bool = False

    @property
    def origin(self) -> int:
        """Images fail each on its own."""
        return self.id


class EncodeRunner(OneStep):
    """All that runs is encoded in one step."""

    def advance(self, running: Sequence[EncodeSequence], first: int) -> None:
        """Encode all of `running`."""
        pixels = stacked(self.model, [one.pixels for one in running])
        codes = self.model.encode_images(pixels).to(torch.int32).cpu().numpy()
        seen = {}
        if self.model.config.sequence_experts is not None and any(one.features for one in running):
            seen = {name: of_all.half().cpu().numpy() for name, of_all in self.model.encoders.seen(pixels).items()}
        for index, one in enumerate(running):
            one.codes = codes[index]
            one.seen = {name: of_all[index] for name, of_all in seen.items()} if one.features else {}
            one.done = True


__all__ = ["EncodeRunner", "EncodeSequence"]
