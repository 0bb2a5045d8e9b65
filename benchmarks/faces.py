"""Faces to measure with: seeded crops, flips and tints of the portraits that ship with the package."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PORTRAITS = Path(__file__).parents[1] / "uniface_ray" / "assets" / "portraits"


def make_faces(folder: Path, count: int, seed: int = 0) -> Path:
    """`count` different JPEG files of 256 px in `folder`, made once and kept for the next time."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [Image.open(path).convert("RGB") for path in sorted(PORTRAITS.glob("*.jpg"))]
    draw = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        data = _variation(originals[number % len(originals)], draw)
        if not path.exists():
            path.write_bytes(data)
    return folder


def _variation(image: Image.Image, draw: np.random.Generator) -> bytes:
    side = int(min(image.size) * draw.uniform(0.85, 1.0))
    left, top = (int(draw.uniform(0, length - side + 1)) for length in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
    if draw.random() < 0.5:
        image = ImageOps.mirror(image)
    pixels = (np.asarray(image) * draw.uniform(0.9, 1.1, 3)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def repeated(faces: Path, folder: Path, count: int) -> Path:
    """The same files under `count` names."""
    folder.mkdir()
    originals = sorted(faces.iterdir())
    for number in range(count):
        os.link(originals[number % len(originals)], folder / f"{number:06d}.jpg")
    return folder
