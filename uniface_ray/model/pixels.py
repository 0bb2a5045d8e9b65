"""From decoded pictures of any size to the model's pixels, and back."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.core.records import Pixels


def fit_square(picture: Pixels, size: int) -> Pixels:
    """Resize the shorter side to `size` (bicubic, antialiased) and cut out the centre (Show-o training/utils.py:179).

    Args:
        picture: uint8 (H, W, 3) RGB.
        size: pixels of the side of the square.

    Returns:
        uint8 (3, size, size) RGB.
    """
    picture = _less_elongated(picture)
    height, width = picture.shape[:2]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    # A view in channels-last order: torch resizes uint8 in that layout without a copy, 4 times as fast as Pillow.
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if shape != (height, width):
        image = F.interpolate(image, size=shape, mode="bicubic", antialias=True)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return np.ascontiguousarray(image[0, :, top : top + size, left : left + size].numpy())


def _less_elongated(picture: Pixels) -> Pixels:
    """The middle of a picture that is more than 4 times as long as wide: resizing all of it could take gigabytes."""
    height, width = picture.shape[:2]
    longest = 4 * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return picture[top : top + longest, left : left + longest]


def to_model_range(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, same shape."""
    return pixels.float() / 127.5 - 1


def from_model_range(pixels: Tensor) -> Tensor:
    """float -1..1 -> uint8 0..255, same shape; what lies outside is clamped."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


__all__ = ["fit_square", "from_model_range", "to_model_range"]
