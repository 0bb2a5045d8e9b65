"""Hair, skin, lighting and background of an aligned face, read off its pixels; None where they are unsure.

Thresholds were set by looking at contact sheets of every class. Between most classes lies a gap that belongs to
neither, so that a borderline face is left out rather than mislabelled.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uniface_ray.train.tiny.regions import BACKGROUND, GRID, HAIR, SKIN, Array, Regions, find_regions

HAIR_COLORS = ("black", "brown", "blond", "red", "grey")
_BATCH = 128


@dataclass(frozen=True)
class Appearance:
    """What the pixels of one face say.

    `hair_color` is one of HAIR_COLORS; `hair_length` "long" or "short"; `skin` "fair", "medium" or "dark" (individual
    typology angle, Chardon et al. 1991, in coarse steps: it is the tone in the picture, lighting included); `lighting`
    "even" or "side"; `background` "dark", "light", "grey", "green", "blue" or "warm".
    """

    hair_color: str | None = None
    hair_length: str | None = None
    bald: bool | None = None
    skin: str | None = None
    lighting: str | None = None
    background: str | None = None


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.bool_]:
    """Raster cells whose centre lies in the box, in fractions of the side; (GRID * GRID,)."""
    ticks = (np.arange(GRID) + 0.5) / GRID
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return ((x > left) & (x < right) & (y > top) & (y < bottom)).ravel()


_UPPER = _box(0, 0, 1, 0.55)
_CHEEKS = _box(0.2, 0.45, 0.8, 0.75)
_LEFT_CHEEK, _RIGHT_CHEEK = _box(0.25, 0.4, 0.45, 0.75), _box(0.55, 0.4, 0.75, 0.75)
_CROWN = _box(0.36, 0.09, 0.64, 0.19)
_BESIDE_NECK = _box(0.14, 0.70, 0.27, 0.86) | _box(0.73, 0.70, 0.86, 0.86)


def _chroma_hue(color: Array) -> tuple[float, float]:
    """CIELAB chroma and hue angle in degrees, 0..360."""
    return float(np.hypot(color[1], color[2])), float(np.degrees(np.arctan2(color[2], color[1])) % 360)


def hair_color(hair: Array, skin: Array) -> str | None:
    """Name of a hair colour from the median CIELAB of hair and of skin, each (3,)."""
    lightness = float(hair[0])
    chroma, hue = _chroma_hue(hair)
    apart_from_skin = float(np.linalg.norm(hair - skin))
    if lightness > 84 or (chroma > 9 and 95 < hue < 335):  # a hat or a scarf
        return None
    if (lightness < 17 and chroma < 11) or (lightness < 30 and chroma < 6.5):
        return "black"
    if apart_from_skin < 14:  # a bald head, or a guess that went astray
        return None
    if (lightness > 50 and chroma > 10 and 57 < hue < 92) or (lightness > 46 and chroma > 18 and 53 < hue < 92):
        return "blond"
    if 24 < lightness < 46 and 23 < chroma < 45 and 28 < hue < 48 and hair[1] > skin[1]:
        return "red"
    if lightness > 34 and 1.5 < chroma < 8.5:
        return "grey"
    if (26 < lightness < 46 and 9 < chroma < 28 and 28 < hue < 75) or (16 < lightness <= 26 and 8 < chroma < 25):
        return "brown"
    return None


def skin_tone(skin: Array) -> str | None:
    """Coarse tone of the median skin colour (3,): individual typology angle, and lightness against dim pictures."""
    angle = float(np.degrees(np.arctan2(skin[0] - 50.0, skin[2])))
    if angle > 44 and skin[0] > 62:
        return "fair"
    if 8 < angle < 30 and skin[2] > 14:
        return "medium"
    return "dark" if skin[0] < 40 and angle < -25 and skin[2] > 12 else None


def background_kind(background: Array) -> str | None:
    """Name of a background from its median CIELAB (3,)."""
    lightness = float(background[0])
    chroma, hue = _chroma_hue(background)
    if lightness < 20:
        return "dark"
    if lightness > 78 and chroma < 9:
        return "light"
    if chroma < 6 and 30 < lightness < 72:
        return "grey"
    if chroma > 11 and 98 < hue < 160:
        return "green"
    if chroma > 11 and 215 < hue < 300:
        return "blue"
    if chroma > 13 and (hue < 80 or hue > 340):
        return "warm"
    return None


def _between(value: float, low: float, high: float) -> bool | None:
    """False below `low`, True above `high`, None between."""
    return True if value > high else False if value < low else None


def _median(lab: Array, chosen: NDArray[np.bool_], least: int) -> Array | None:
    return np.median(lab[chosen], axis=0) if int(chosen.sum()) >= least else None


def describe(regions: Regions, index: int) -> Appearance:
    """Appearance of one face of a batch."""
    lab, parts = regions.lab[index], regions.parts[index]
    skin = _median(lab, (parts[:, SKIN] > 0.9) & _CHEEKS, 200)
    if skin is None:
        return Appearance()
    hair = _median(lab, (parts[:, HAIR] > 0.8) & _UPPER, 200)
    background = _median(lab, (parts[:, BACKGROUND] > 0.8) & _UPPER, 150)
    left = _median(lab, (parts[:, SKIN] > 0.5) & _LEFT_CHEEK, 40)
    right = _median(lab, (parts[:, SKIN] > 0.5) & _RIGHT_CHEEK, 40)
    lighting = None
    if left is not None and right is not None:
        side = _between(abs(float(left[0] - right[0])), 5.0, 13.0)
        lighting = None if side is None else "side" if side else "even"
    # A scalp has the hue of the face and is often lit from above; hair is darker, or yellower.
    offset = lab[_CROWN] - skin
    scalp = (np.abs(offset[:, 1:]).max(-1) < 9) & (offset[:, 0] > -10) & (offset[:, 0] < 25)
    bald = _between(float(scalp.mean()), 0.3, 0.8)
    hair_sure = hair is not None and not bald and np.linalg.norm(np.median(lab[_CROWN], axis=0) - hair) < 16
    long = _between(float(parts[_BESIDE_NECK, HAIR].mean()), 0.06, 0.5)
    return Appearance(
        hair_color=hair_color(hair, skin) if hair is not None and hair_sure else None,
        hair_length=None if long is None or not hair_sure else "long" if long else "short",
        bald=bald,
        skin=skin_tone(skin),
        lighting=lighting,
        background=background_kind(background) if background is not None else None,
    )


def read_appearance(faces: NDArray[np.uint8]) -> Iterator[Appearance]:
    """Appearance of each aligned face of (count, side, side, 3), uint8 sRGB."""
    for start in range(0, len(faces), _BATCH):
        batch = faces[start : start + _BATCH]
        regions = find_regions(batch)
        yield from (describe(regions, index) for index in range(len(batch)))
