"""Random views of training faces: faces in the wild are cropped, lit and compressed less evenly than aligned ones."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.train.tiny.attributes import VALUES


@dataclass(frozen=True)
class Zoom:
    """Range of the natural logarithm of the zoom: below 0 nearer, above 0 further away."""

    nearest: float
    furthest: float


# Crops of detectors show more of the surroundings than the aligned faces: zoom out further than in.
ALIGNED = Zoom(-0.16, 0.34)
# Portraits are cropped as people like it, often from the hairline to the chin.
WILD = Zoom(-0.42, 0.3)


def random_views(
    faces: Tensor, size: int, generator: torch.Generator, strength: float = 1.0, zoom: Zoom = ALIGNED
) -> Tensor:
    """One random view of each face.

    Args:
        faces: (B, 3, side, side) uint8.
        size: side of the views in pixels.
        generator: source of the randomness.
        strength: 0 gives the plain, resized faces.
        zoom: how near and how far at strength 1.

    Returns:
        (B, 3, size, size) float32 in -1..1.
    """
    count = len(faces)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    scale = torch.exp(uniform(zoom.nearest, zoom.furthest) * strength)
    angle = uniform(-1, 1) * math.radians(10) * strength
    flip = torch.where(uniform(0, 1) < 0.5 * min(strength, 1.0), -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
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


# What each change of a picture makes untrue or unseen.
# A reader that says man or woman under a cap says what caps are mostly worn by.
_CAP_HIDES = ("gender", "hair_color", "bald")
_GREY_HIDES = ("hair_color", "skin", "background")
_TINT_HIDES = ("skin", "background")


def wild_views(faces: Tensor, size: int, generator: torch.Generator, caps: float = 0.4) -> tuple[Tensor, Tensor]:
    """Views as `random_views`, nearer, some with a cap or glasses, some grey or vivid, some under coloured light.

    Args:
        faces: (B, 3, side, side) uint8.
        size: side of the views in pixels.
        generator: source of the randomness.
        caps: share of the views with a cap.

    Returns:
        the views (B, 3, size, size), and what can still be told of them: (B, attributes) bool in the order of VALUES.
    """
    count = len(faces)
    told = torch.ones(count, len(VALUES), dtype=torch.bool)
    chance = torch.rand(5, count, generator=generator)
    capped, grey, tinted, glasses = chance[0] < caps, chance[1] < 0.1, chance[2] < 0.3, chance[3] < 0.4
    vivid = chance[4] < 0.3
    hides = ((capped, _CAP_HIDES), (grey, _GREY_HIDES), (tinted | vivid, _TINT_HIDES))
    for chosen, names in hides:
        for name in names:
            told[chosen, list(VALUES).index(name)] = False
    dressed = _with_glasses(_with_caps(faces, capped, generator), glasses, generator)
    views = random_views(dressed, size, generator, 1.0, WILD)
    # Warm or cold light, as a daylight and a tungsten setting of a camera would give.
    warmth = (torch.rand(count, generator=generator) - 0.5) * 0.36 * tinted
    light = torch.exp(torch.stack([warmth, torch.zeros(count), -warmth], dim=1))[:, :, None, None]
    views = ((views + 1.0) * light - 1.0).clamp(-1, 1)
    luma = (views * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    # Hard contrast and strong or faded colours, as prints and scans have.
    harder, stronger = torch.exp(torch.rand(2, count, 1, 1, 1, generator=generator) * 0.8 - 0.3)
    middle = luma.mean((2, 3), keepdim=True)
    hard = ((luma + (views - luma) * stronger - middle) * harder + middle).clamp(-1, 1)
    views = torch.where(vivid[:, None, None, None], hard, views)
    return torch.where(grey[:, None, None, None], luma.expand_as(views), views), told


def _with_caps(faces: Tensor, capped: Tensor, generator: torch.Generator) -> Tensor:
    """A cap, half of them dark, some with an emblem, above the brows of the chosen faces (eyes lie at 47 %)."""
    side = faces.shape[-1]
    ticks = (torch.arange(side) + 0.5) / side
    faces = faces.clone()
    for index in capped.nonzero()[:, 0].tolist():
        numbers = torch.rand(14, generator=generator)
        brim = 0.24 + 0.12 * float(numbers[0])
        bend = (float(numbers[1]) - 0.3) * 0.5
        wide = 0.3 + 0.14 * float(numbers[2])
        edge = brim + bend * (ticks - 0.5) ** 2
        above = edge[None, :] - ticks[:, None]
        inside = (above > 0) & ((ticks[None, :] - 0.5).abs() < wide) & (above < 0.3 + 0.2 * float(numbers[3]))
        cap, band = numbers[4:7] * 255, (numbers[7] ** 2 * 255).expand(3)
        color = torch.where((above < 0.04 + 0.14 * float(numbers[8]))[None], band[:, None, None], cap[:, None, None])
        if numbers[9] < 0.5:
            color = color * 0.25
        if numbers[11] < 0.3:  # a white top, as of uniforms
            color = torch.where((above < 0.04 + 0.14 * float(numbers[8]))[None], color, torch.tensor(235.0))
        if numbers[10] < 0.4:
            blots = _blots(side, 16, generator) > 0.5
            reach, height = 0.08 + 0.12 * float(numbers[12]), 0.05 + 0.1 * float(numbers[13])
            emblem = blots & ((ticks[None, :] - 0.5).abs() < reach) & ((above - height).abs() < height * 0.8)
            color = torch.where(emblem[None], torch.tensor([225.0, 205.0, 130.0])[:, None, None], color)
        color = (color * (0.75 + 0.5 * _blots(side, 6, generator))).clamp(0, 255)  # folds, light and shade
        faces[index] = torch.where(inside[None], color.to(torch.uint8), faces[index])
    return faces


def _blots(side: int, cells: int, generator: torch.Generator) -> Tensor:
    """(side, side) smooth noise in 0..1."""
    coarse = torch.rand(1, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, size=side, mode="bilinear", align_corners=False)[0, 0]


def _with_glasses(faces: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Frames of one colour around the eyes of the chosen faces (at 38 and 62 % from the left, 47 % from the top)."""
    side = faces.shape[-1]
    ticks = (torch.arange(side) + 0.5) / side
    x, y = ticks[None, :], ticks[:, None]
    faces = faces.clone()
    for index in chosen.nonzero()[:, 0].tolist():
        numbers = torch.rand(9, generator=generator)
        wide, high = 0.08 + 0.035 * float(numbers[0]), 0.055 + 0.035 * float(numbers[1])
        thick = 0.006 + 0.016 * float(numbers[2])
        roundness = 2 + 4 * float(numbers[3])  # 2 is an ellipse, 6 nearly a rectangle
        centre = 0.475 + 0.02 * float(numbers[4])
        frame = lens = torch.zeros(side, side, dtype=torch.bool)
        for eye in (0.383, 0.617):
            reach = ((x - eye).abs() / wide) ** roundness + ((y - centre).abs() / high) ** roundness
            inner = ((x - eye).abs() / (wide - thick)) ** roundness + ((y - centre).abs() / (high - thick)) ** roundness
            frame = frame | ((reach <= 1) & (inner > 1))
            lens = lens | (inner <= 1)
        bridge = ((x - 0.5).abs() < 0.117 - wide + thick) & ((y - centre + 0.2 * high).abs() < thick / 2)
        arms = ((x - 0.5).abs() > 0.117 + wide - thick) & ((x - 0.5).abs() < 0.3)
        frame = frame | bridge | (arms & ((y - centre + 0.3 * high).abs() < thick / 2))
        shade = 1 - 0.35 * float(numbers[5]) ** 3
        color = numbers[6:9] * torch.tensor([150.0, 110.0, 100.0])
        face = torch.where(lens[None], faces[index] * shade, faces[index].float())
        faces[index] = torch.where(frame[None], color[:, None, None], face).to(torch.uint8)
    return faces
