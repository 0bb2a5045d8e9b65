"""Pictures as a request brings them, read for the model."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uniface_ray.core.records import Pixels
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.pixels import to_model_range
from uniface_ray.model.transfer import sent


def read_pictures(
    model: UniFaceForConditionalGeneration, pictures: Sequence[Pixels | Tensor]
) -> tuple[Tensor, ImageFeatures | None]:
    """Image codes (B, N) int64 on the model's device, and what its experts see of the pictures.

    Args:
        model: in eval mode.
        pictures: uint8 (3, size, size) RGB each; or all of them image codes (N,) int64, of which experts see nothing.
    """
    codes = [one for one in pictures if isinstance(one, Tensor)]
    if codes:
        return torch.stack(codes).to(model.device), None
    pixels = stacked(model, [one for one in pictures if not isinstance(one, Tensor)])
    return model.encode_images(pixels), model.image_features(pixels)


def stacked(model: UniFaceForConditionalGeneration, pictures: Sequence[Pixels]) -> Tensor:
    """uint8 (3, size, size) RGB each -> (B, 3, size, size) float32 in -1..1, on the model's device."""
    return to_model_range(sent(torch.from_numpy(np.stack(pictures)), model.device))
