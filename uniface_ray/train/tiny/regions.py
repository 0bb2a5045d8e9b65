"""Where skin, hair, background and clothes lie in an aligned face, found from its colours alone.

Faces aligned as in FFHQ (eyes at 47 % of the height) put each part at a known place, give or take. That place is the
prior of a small Gaussian mixture in CIELAB; a few rounds of expectation-maximisation fit it to one picture's colours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

GRID = 64
SKIN, HAIR, BACKGROUND, CLOTHES = range(4)
_PART_OF_COMPONENT = np.array([SKIN, SKIN, HAIR, BACKGROUND, BACKGROUND, BACKGROUND, CLOTHES, CLOTHES])
_ROUNDS = 8
_XYZ_OF_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32)
_WHITE_D65 = np.array([0.9505, 1.0, 1.089], dtype=np.float32)


@dataclass(frozen=True)
class Regions:
    """One batch of faces on a GRID x GRID raster.

    `lab`: (batch, GRID * GRID, 3) CIELAB (L in 0..100); `parts`: (batch, GRID * GRID, 4), the probability of each part.
    """

    lab: Array
    parts: Array


def to_lab(rgb: NDArray[np.uint8] | Array) -> Array:
    """sRGB (..., 3) in 0..255 to CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
    value = np.asarray(rgb, dtype=np.float32) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = (linear @ _XYZ_OF_RGB.T) / _WHITE_D65
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    lightness = 116.0 * root[..., 1] - 16.0
    red_green = 500.0 * (root[..., 0] - root[..., 1])
    yellow_blue = 200.0 * (root[..., 1] - root[..., 2])
    return np.stack([lightness, red_green, yellow_blue], axis=-1).astype(np.float32)


def _soft_ellipse(x: Array, y: Array, centre: tuple[float, float], radii: tuple[float, float]) -> Array:
    """About 1 inside the ellipse, 0 outside, with a soft border; all in fractions of the picture's side."""
    distance = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    return np.asarray(1.0 / (1.0 + np.exp((distance - 1.0) / 0.08)), dtype=np.float32)


def _place_priors() -> Array:
    """(components, GRID * GRID): how likely each mixture component is at each place, before any colour is seen."""
    ticks: Array = np.asarray((np.arange(GRID) + 0.5) / GRID, dtype=np.float32)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    face = _soft_ellipse(x, y, (0.5, 0.57), (0.23, 0.36))
    head = _soft_ellipse(x, y, (0.5, 0.45), (0.37, 0.42))
    # Long hair falls beside the neck; shoulders begin at 80 % of the height.
    beside = _soft_ellipse(x, y, (0.5, 0.75), (0.40, 0.35)) * (1.0 - face)
    low = 1.0 / (1.0 + np.exp(-(y - 0.84) / 0.04))
    neck = low * _soft_ellipse(x, y, (0.5, 0.95), (0.17, 0.3))
    skin = 0.95 * face + 0.3 * neck + 0.02
    hair = (1.0 - face) * (0.9 * head + 0.35 * beside) * (1.0 - 0.7 * low) + 0.03
    behind = (1.0 - head) * (1.0 - 0.75 * low) + 0.01
    clothes = low * (1.0 - 0.6 * face) + 0.005
    left, right, top = x < 0.5, x >= 0.5, 1.0 / (1.0 + np.exp((y - 0.3) / 0.1))
    maps = [
        skin * np.where(left, 0.7, 0.3),
        skin * np.where(right, 0.7, 0.3),
        hair,
        behind * np.where(left, 0.5, 0.1),
        behind * np.where(right, 0.5, 0.1),
        behind * 0.4 * top,
        clothes * np.where(left, 0.6, 0.4),
        clothes * np.where(right, 0.6, 0.4),
    ]
    priors = np.stack(maps).reshape(len(maps), -1)
    return np.asarray(priors / priors.sum(0, keepdims=True), dtype=np.float32)


_PRIORS = _place_priors()


def shrink(pixels: NDArray[np.uint8]) -> Array:
    """(batch, side, side, 3) to (batch, GRID, GRID, 3) by area averaging; `side` is a multiple of GRID."""
    batch, side = pixels.shape[:2]
    step = side // GRID
    if step * GRID != side:
        raise ValueError(f"the side of a face must be a multiple of {GRID} pixels, not {side}")
    blocks = pixels.reshape(batch, GRID, step, GRID, step, 3)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def find_regions(pixels: NDArray[np.uint8]) -> Regions:
    """Split aligned faces (batch, side, side, 3), uint8 sRGB, into their parts."""
    lab = to_lab(shrink(pixels)).reshape(len(pixels), GRID * GRID, 3)
    # The first guess of every colour comes from where its part surely is.
    share = np.broadcast_to(_PRIORS.T**3, (len(lab), GRID * GRID, len(_PRIORS))).copy()
    for _ in range(_ROUNDS):
        weight = share.sum(1) + 1e-3
        mean = np.einsum("bnk,bnc->bkc", share, lab) / weight[..., None]
        offset = lab[:, :, None, :] - mean[:, None]
        spread = np.einsum("bnk,bnkc->bkc", share, offset**2) / weight[..., None] + 12.0
        log_colour = -0.5 * (offset**2 / spread[:, None] + np.log(spread)[:, None]).sum(-1)
        log_joint = log_colour + np.log(_PRIORS.T)
        log_joint -= log_joint.max(-1, keepdims=True)
        share = np.exp(log_joint)
        share /= share.sum(-1, keepdims=True)
    parts = np.stack([share[:, :, part == _PART_OF_COMPONENT].sum(-1) for part in range(4)], axis=-1)
    return Regions(lab=lab, parts=parts.astype(np.float32))
