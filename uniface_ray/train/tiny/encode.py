"""Encodes augmented views of every face to image codes, once, so that the language model trains on codes alone."""

import os
from pathlib import Path

import torch
from torch import Tensor

from uniface_ray.model.magvit import MagvitV2
from uniface_ray.train.tiny.augment import random_views


@torch.no_grad()
def encode_views(faces: Tensor, magvit: MagvitV2, views: int, path: Path) -> Tensor:
    """(views, count, N) int16 codes; the first view is the plain face. Kept in `path`."""
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    encoded = []
    for view in range(views):
        generator = torch.Generator().manual_seed(1_000 + view)
        strength = 0.0 if view == 0 else 1.0
        batches = []
        for start in range(0, len(faces), 64):
            pixels = random_views(faces[start : start + 64], magvit.config.image_size, generator, strength)
            with torch.autocast("cpu", torch.bfloat16):
                batches.append(magvit.encode(pixels).to(torch.int16))
        encoded.append(torch.cat(batches))
    codes = torch.stack(encoded)
    part = path.with_suffix(".part")
    torch.save(codes, part)
    os.replace(part, path)
    return codes
