"""Training faces with another background or another colour of hair, for what the few faces there are never show.

Where hair and background lie is a guess of `regions.find_regions`, soft at its borders; so is the paint.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.regions import BACKGROUND, GRID, HAIR, find_regions

# Hair is painted on faces from this age on: grey and black hair are what real portraits have and made faces lack.
_GREYS_FROM = 40.0
# Colour, lightness of its middle, what stays of light and shade, share of those faces that get a copy.
_PAINTS = (("grey", (130.0, 220.0), 0.9, 0.7), ("black", (18.0, 48.0), 0.35, 0.25))
_BACKGROUND_SHARE = 0.4
_LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def find_parts(faces: Tensor) -> Tensor:
    """Aligned faces (B, 3, side, side) uint8 to probabilities (B, 4, side, side) in the order of `regions`."""
    small = F.interpolate(faces.float(), size=2 * GRID, mode="bilinear", antialias=True).round().clamp(0, 255)
    regions = find_regions(small.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    parts = torch.from_numpy(regions.parts).transpose(1, 2).reshape(len(faces), -1, GRID, GRID)
    soft = F.avg_pool2d(F.pad(parts, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return F.interpolate(soft, size=faces.shape[-2:], mode="bilinear", align_corners=False)


def repaint_backgrounds(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Faces (B, 3, side, side) uint8 before blurred patches of colour; bright ones shine over the edges of hair."""
    count, side = len(faces), faces.shape[-1]
    behind = find_parts(faces)[:, BACKGROUND : BACKGROUND + 1]
    cells = int(torch.randint(2, 8, (), generator=generator))
    patches = torch.rand(count, 3, cells, cells, generator=generator)
    plain, bright = torch.rand(2, count, 1, 1, 1, generator=generator)
    color = torch.rand(count, 3, 1, 1, generator=generator)
    paint = F.interpolate(patches, size=side, mode="bicubic").clamp(0, 1) * (1 - plain) + color * plain
    # Half of them are brighter than the face, as windows and lamps are.
    white = (bright - 0.5).clamp(min=0) * 1.6
    paint = 255 * (paint * (1 - white) + white)
    reach = side // 10
    around = F.avg_pool2d(F.pad(behind, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)
    shine = torch.rand(count, 1, 1, 1, generator=generator) * 0.7 * (bright > 0.6) * around
    lit = torch.lerp(faces.float(), paint, shine)
    return torch.lerp(lit, paint, behind).clamp(0, 255).to(torch.uint8)


def repaint_hair(faces: Tensor, lightness: tuple[float, float], depth: float, generator: torch.Generator) -> Tensor:
    """Faces (B, 3, side, side) uint8 with hair without colour, its middle between two values of `lightness` (0..255).

    Strands keep `depth` of their light and shade around it.
    """
    ticks = (torch.arange(faces.shape[-1]) + 0.5) / faces.shape[-1]
    # Brows, eyes, frames of glasses and beards look like hair, and stay as they are.
    inside = ((ticks[None, :] - 0.5) / 0.2) ** 2 + ((ticks[:, None] - 0.62) / 0.24) ** 2
    hair = find_parts(faces)[:, HAIR : HAIR + 1] * ((inside - 1) * 2).clamp(0, 1)
    face = faces.float()
    luma = (face * _LUMA).sum(1, keepdim=True)
    middle = (luma * hair).sum((2, 3), keepdim=True) / hair.sum((2, 3), keepdim=True).clamp(min=1)
    low, high = lightness
    target = low + (high - low) * torch.rand(len(faces), 1, 1, 1, generator=generator)
    tint = 1 + (torch.rand(len(faces), 3, 1, 1, generator=generator) - 0.5) * 0.06
    return torch.lerp(face, ((luma - middle) * depth + target) * tint, hair).clamp(0, 255).to(torch.uint8)


def with_repainted(prepared: Prepared, seed: int = 5) -> Prepared:
    """`prepared`, copies of grown faces with other hair, and copies of some of all these before other backgrounds.

    The faces themselves come first.
    """
    generator, count = torch.Generator().manual_seed(seed), len(prepared.years)
    origin = torch.arange(count)
    hair, bald, background = (list(VALUES).index(name) for name in ("hair_color", "bald", "background"))
    fit = (prepared.years >= _GREYS_FROM) & (prepared.classes[:, bald] == 0) & (prepared.classes[:, hair] >= 0)
    for color, lightness, depth, share in _PAINTS:
        chosen = fit & (torch.rand(len(fit), generator=generator) < share)
        copies = _copies(prepared, chosen, partial(repaint_hair, lightness=lightness, depth=depth, generator=generator))
        copies.classes[:, hair] = VALUES["hair_color"].index(color)
        prepared, origin = _joined(prepared, copies), torch.cat([origin, origin[chosen]])
        fit = torch.cat([fit, torch.zeros(len(copies.years), dtype=torch.bool)])
    chosen = torch.rand(len(prepared.faces), generator=generator) < _BACKGROUND_SHARE
    copies = _copies(prepared, chosen, partial(repaint_backgrounds, generator=generator))
    copies.classes[:, background] = -1
    joined = _joined(prepared, copies)
    origin = torch.cat([origin, origin[chosen]])
    return replace(joined, painted=torch.arange(len(joined.years)) >= count, origin=origin)


def _copies(prepared: Prepared, chosen: Tensor, paint: Callable[[Tensor], Tensor]) -> Prepared:
    indices = chosen.nonzero()[:, 0]
    faces = [paint(prepared.faces[some]) for some in indices.split(64) if len(some)]
    return Prepared(torch.cat([prepared.faces[:0], *faces]), prepared.classes[indices], prepared.years[indices])


def _joined(first: Prepared, second: Prepared) -> Prepared:
    return Prepared(
        torch.cat([first.faces, second.faces]),
        torch.cat([first.classes, second.classes]),
        torch.cat([first.years, second.years]),
    )
