"""Masking image codes for training, by exact count (Show-o training/utils.py:77-102)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.schedules import schedule

IGNORED = -100


class Corrupted(NamedTuple):
    """Images with some tokens masked. B images, N tokens.

    Attributes:
        image_ids: (B, N) int64 vocabulary ids: an image token, or the mask token where masked.
        labels: (B, N) int64 codes to predict, `IGNORED` where not masked.
        share: (B,) float32 gamma = k / N, the share that is masked in fact: 1 / N .. 1.
    """

    image_ids: Tensor
    labels: Tensor
    share: Tensor


def corrupt(config: UniFaceConfig, codes: Tensor, name: str, seeds: Sequence[int]) -> Corrupted:
    """Mask k = max(1, round(N gamma(u))) random tokens of each image, u ~ U(0, 1).

    Args:
        config: of the model.
        codes: (B, N) int64 image codes.
        name: of the schedule, see `schedules.schedule`.
        seeds: one for each image: what is masked depends on it alone, whatever batch the image is in.

    Raises:
        ValueError: another number of seeds than images.
        UserError: an unknown schedule.
    """
    count = codes.shape[1]
    if len(seeds) != len(codes):
        raise ValueError(f"{len(seeds)} seeds for {len(codes)} images: give one seed for each image")
    draws = torch.stack([torch.rand(1 + count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    draws = draws.to(codes.device)
    masked_count = (count * schedule(name).share(draws[:, 0])).round().clamp(1, count)
    masked = draws[:, 1:].argsort(1).argsort(1) < masked_count[:, None]
    return Corrupted(
        torch.where(masked, config.mask_token_id, codes + config.image_token_offset),
        torch.where(masked, codes, IGNORED),
        masked_count / count,
    )


__all__ = ["IGNORED", "Corrupted", "corrupt"]
