"""From decoded pictures and masks of any size to the model's square."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from uniface_ray.core.errors import UserError
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


def fit_mask(mask: Pixels, picture_shape: tuple[int, int], size: int) -> npt.NDArray[np.bool_]:
    """Resize and crop a mask just as `fit_square` does its picture -> bool (size, size).

    Args:
        mask: (H, W), or (H, W, channels) of which the first counts; bool, or numbers where the upper half of the range
            (uint8 from 128, floats from 0.5) is masked.
        picture_shape: (H, W) of the picture, which the mask's must be.
        size: S.

    Raises:
        UserError: another size or type.
    """
    if mask.ndim not in (2, 3) or mask.shape[:2] != tuple(picture_shape):
        raise UserError(
            f"mask is {_shape(mask.shape)}, but its picture is {_shape(picture_shape)}: "
            "give a mask with one value for each pixel of the picture"
        )
    if mask.dtype != np.bool_ and mask.dtype != np.uint8 and not np.issubdtype(mask.dtype, np.floating):
        raise UserError(f"mask has values of type {mask.dtype}: give booleans, uint8 0..255 or floats 0..1")
    plane = mask if mask.ndim == 2 else mask[..., 0]
    masked = plane >= (128 if mask.dtype == np.uint8 else 0.5)
    picture = np.repeat(masked[..., None].astype(np.uint8) * 255, 3, axis=2)
    return fit_square(picture, size)[0] >= 128


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + " (height x width)"


__all__ = ["fit_mask", "fit_square"]
