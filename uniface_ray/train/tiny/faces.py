"""The training faces: parquet shards of aligned JPEG faces with attribute estimates of small pretrained nets."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


@dataclass(frozen=True)
class Estimates:
    """What the nets estimate of one face: `age` in years, `p_male` and `expression` as probabilities 0..1."""

    age: float
    p_male: float
    expression: dict[str, float]


@dataclass(frozen=True)
class Face:
    """One face: its id, its pixels (side, side, 3) uint8 sRGB, and its estimates."""

    face_id: str
    pixels: NDArray[np.uint8]
    estimates: Estimates


def split_shards(folder: Path) -> tuple[list[Path], list[Path]]:
    """Shards for training and for evaluation: the last fifth by name is held out.

    Raises:
        FileNotFoundError: the folder has fewer than two parquet shards.
    """
    shards = sorted(folder.glob("*.parquet"))
    if len(shards) < 2:
        raise FileNotFoundError(
            f"{folder} holds {len(shards)} parquet shards, but at least 2 are needed: one is held out"
        )
    held_out = max(1, len(shards) // 5)
    return shards[:-held_out], shards[-held_out:]


def read_faces(shard: Path) -> Iterator[Face]:
    """Faces of one shard; columns: id, image, age, p_male and p_<expression>."""
    for row in pq.read_table(shard).to_pylist():
        pixels = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        expression = {name: float(row[f"p_{name}"]) for name in EXPRESSIONS}
        yield Face(row["id"], pixels, Estimates(float(row["age"]), float(row["p_male"]), expression))
