"""Random views of training faces: faces in the wild are cropped, lit and compressed less evenly than aligned ones."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_views(faces: Tensor, size: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """One random view of each face.

    Args:
        faces: (B, 3, side, side) uint8.
        size: side of the views in pixels.
        generator: source of the randomness.
        strength: 0 gives the plain, resized faces.

    Returns:
        (B, 3, size, size) float32 in -1..1.
    """
    count = len(faces)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    # Crops of detectors show more of the surroundings than the aligned faces: zoom out further than in.
    zoom = torch.exp(uniform(-0.16, 0.34) * strength)
    angle = uniform(-1, 1) * math.radians(10) * strength
    flip = torch.where(uniform(0, 1) < 0.5 * min(strength, 1.0), -1.0, 1.0)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift_x, shift_y = uniform(-0.2, 0.2) * strength, uniform(-0.2, 0.2) * strength
    theta = torch.stack(
        [torch.stack([cosine * flip, -sine, shift_x], -1), torch.stack([sine * flip, cosine, shift_y], -1)], dim=1
    )
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    views = F.grid_sample(
        faces.float() / 127.5 - 1.0, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    # Small enough to leave the names of hair, skin and light true.
    gain = torch.exp(uniform(-0.12, 0.12) * strength)[:, None, None, None]
    tint = torch.exp((torch.rand(count, 3, 1, 1, generator=generator) - 0.5) * 0.08 * strength)
    contrast = torch.exp(uniform(-0.15, 0.15) * strength)[:, None, None, None]
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    views = ((views - middle) * contrast + middle + 1.0) * gain * tint - 1.0
    return _degrade(views.clamp(-1, 1), generator, strength)


def _degrade(views: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Blur a quarter of the views as if they had been enlarged, and add a little noise to another quarter."""
    quarter = int(len(views) * 0.25 * min(strength, 1.0))
    if quarter == 0:
        return views
    size = views.shape[-1]
    smaller = int(size * float(0.35 + 0.5 * torch.rand((), generator=generator)))
    chosen = torch.randperm(len(views), generator=generator)
    views = views.clone()
    blurred, noisy = chosen[:quarter], chosen[quarter : 2 * quarter]
    tiny = F.interpolate(views[blurred], size=smaller, mode="bilinear", antialias=True)
    views[blurred] = F.interpolate(tiny, size=size, mode="bilinear")
    views[noisy] += 0.05 * torch.randn(views[noisy].shape, generator=generator)
    return views.clamp(-1, 1)
