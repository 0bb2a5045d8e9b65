"""What is computed once of an image, however often it is asked about."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the encoders see of a batch of images; None where the model has no such encoder.

    Attributes:
        semantic: (B, N, R) floats for the semantic expert, R the resampler's width.
        identity: (B, N, R) floats for the identity expert.
        projected: (B, M, D) floats that stand in the sequence itself, for Show-o's variants with CLIP.
    """

    semantic: Tensor | None = None
    identity: Tensor | None = None
    projected: Tensor | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ImageFeatures":
        """The same on another device or in another floating type."""
        return self._each(lambda tensor: tensor.to(device=device, dtype=dtype))

    def index_select(self, rows: Tensor) -> "ImageFeatures":
        """Features of some images, in a new order or repeated: one image with several questions.

        Args:
            rows: (K,) int64 indices of images.
        """
        return self._each(lambda tensor: tensor.index_select(0, rows.to(tensor.device)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return ImageFeatures(**{name: change(tensor) for name, tensor in given.items() if tensor is not None})


__all__ = ["ImageFeatures"]
