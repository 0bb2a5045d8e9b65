"""Reads the shards once: pixels made small, attributes decided, kept in one file for the later steps."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import VALUES, Attributes, decide
from uniface_ray.train.tiny.faces import read_faces

# A little more than the model's 128 px, so that zoomed-in views stay sharp.
SIDE = 160


@dataclass(frozen=True)
class Prepared:
    """Faces ready to train on.

    `faces`: (count, 3, SIDE, SIDE) uint8; `classes`: (count, attributes) int64 in the order of VALUES, -1 where unsure;
    `years`: (count,) float32 estimated ages; `painted`: (count,) bool, faces to learn reading from but not to draw,
    None where there are none; `origin`: (count,) int64, the face that each is a painted copy of, or its own number;
    None likewise.
    """

    faces: Tensor
    classes: Tensor
    years: Tensor
    painted: Tensor | None = None
    origin: Tensor | None = None

    def attributes(self, index: int) -> Attributes:
        """Sure attributes of one face."""
        codes = self.classes[index].tolist()
        sure = {name: values[code] for (name, values), code in zip(VALUES.items(), codes, strict=True) if code >= 0}
        return Attributes(**sure, grown_up=float(self.years[index]) >= 18.0)


def prepare(shards: Sequence[Path], path: Path) -> Prepared:
    """Read `shards`, or what an earlier call wrote to `path`."""
    if not path.exists():
        parts = [_prepare_shard(shard) for shard in shards]
        names = ("faces", "classes", "years")
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        part_path = path.with_suffix(".part")
        torch.save(tensors, part_path)
        os.replace(part_path, path)
    return Prepared(**torch.load(path, weights_only=True))


def _prepare_shard(shard: Path) -> Prepared:
    faces = list(read_faces(shard))
    pixels = np.stack([face.pixels for face in faces])
    attributes = [
        decide(face.estimates, appearance) for face, appearance in zip(faces, read_appearance(pixels), strict=True)
    ]
    small = [
        torch.nn.functional.interpolate(
            torch.from_numpy(pixels[start : start + 64]).permute(0, 3, 1, 2).float(),
            size=SIDE,
            mode="bicubic",
            antialias=True,
        )
        for start in range(0, len(pixels), 64)
    ]
    return Prepared(
        faces=torch.cat(small).round().clamp(0, 255).to(torch.uint8),
        classes=torch.tensor([[item.class_index(name) for name in VALUES] for item in attributes]),
        years=torch.tensor([face.estimates.age for face in faces]),
    )
