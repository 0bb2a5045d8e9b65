"""Squares of a picture, at any place, size and angle."""

from dataclasses import dataclass
from math import ceil, cos, floor, hypot, sin

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from uniface_ray.core.records import Pixels


@dataclass(frozen=True, slots=True)
class Square:
    """A square in a picture, which may reach beyond it.

    Attributes:
        x: of its centre, in pixels from the picture's left edge.
        y: of its centre, in pixels from the top.
        side: in pixels.
        angle: of its upper edge, in radians, clockwise as seen.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Tensor) -> Tensor:
        """Points in fractions of the square's side, (..., 2) x y -> in pixels of the picture."""
        turn = torch.tensor([[cos(self.angle), sin(self.angle)], [-sin(self.angle), cos(self.angle)]])
        return (points - 0.5) * self.side @ turn + torch.tensor([self.x, self.y])


def cut(picture: Pixels, square: Square, size: int, beyond: str = "zeros") -> Tensor:
    """The square, resampled (bilinear, antialiased).

    Args:
        picture: uint8 (H, W, 3).
        square: what to cut out.
        size: pixels of the result's side.
        beyond: what is outside the picture: `zeros` or `reflection`.

    Returns:
        uint8 (3, size, size).
    """
    height, width = picture.shape[:2]
    shrink = max(1.0, square.side / size)
    reach = square.side / 2 * (abs(cos(square.angle)) + abs(sin(square.angle))) + 2 * shrink
    left, right = (min(max(edge, 0), width) for edge in (floor(square.x - reach), ceil(square.x + reach)))
    top, bottom = (min(max(edge, 0), height) for edge in (floor(square.y - reach), ceil(square.y + reach)))
    if left >= right or top >= bottom:
        return torch.zeros(3, size, size, dtype=torch.uint8)
    region = torch.from_numpy(picture[top:bottom, left:right]).permute(2, 0, 1)[None]
    if shrink > 1:
        shape = (ceil((bottom - top) / shrink), ceil((right - left) / shrink))
        region = F.interpolate(region, size=shape, mode="bilinear", antialias=True)
    steps = (torch.arange(size) + 0.5) / size
    points = square.to_picture(torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1))
    # In the units of grid_sample: -1 and 1 are the edges of the region.
    extent = torch.tensor([right - left, bottom - top])
    grid = (points - torch.tensor([left, top])) / extent * 2 - 1
    found = F.grid_sample(region.float(), grid[None], mode="bilinear", padding_mode=beyond, align_corners=False)
    return found[0].round().clamp(0, 255).to(torch.uint8)


def portrait_square(points: np.ndarray) -> Square:
    """Where a face is framed as in FFHQ, which face models are trained on.

    Args:
        points: float (6, 2), x y in pixels, as `Face.points`.

    Source: NVlabs/ffhq-dataset, download_ffhq.py, recreate_aligned_images. Its eyes and mouth are means of 68
    landmarks; BlazeFace gives one point for each.
    """
    eyes, mouth = points[:2].mean(0), points[3]
    between, down = points[1] - points[0], mouth - eyes
    across = between + np.array([down[1], -down[0]])
    half = max(hypot(*between) * 2.0, hypot(*down) * 1.8)
    x, y = eyes + down * 0.1
    return Square(float(x), float(y), 2 * half, float(np.arctan2(across[1], across[0])))


def portrait(picture: Pixels, points: ArrayLike, size: int) -> Pixels:
    """A face alone, upright and framed as models know it.

    Args:
        picture: uint8 (H, W, 3).
        points: `Face.points`, or the same 12 numbers in a row.
        size: pixels of the result's side.

    Returns:
        uint8 (3, size, size).
    """
    square = portrait_square(np.asarray(points, np.float32).reshape(6, 2))
    return cut(picture, square, size, beyond="reflection").numpy()
