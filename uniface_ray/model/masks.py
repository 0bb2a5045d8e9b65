"""Show-o's attention rules, for whole batches without a loop over rows (training/prompting_utils.py:466-604).

A rule is a boolean tensor, True where a query may see a key. Letters in shapes: B rows, L positions.
"""

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig


def attention_rule(config: UniFaceConfig, input_ids: Tensor) -> Tensor:
    """The rule of every row of `input_ids` (B, L), by the task token it holds -> (B, 1, L, L) bool.

    - `<|mmu|>` (caption, VQA): causal, and every query sees all keys up to and including `<|eoi|>`.
      Where text stands between `<|mmu|>` and `<|soi|>` (the layout with CLIP), every query sees all keys between
      `<|soi|>` and `<|eoi|>` instead.
    - `<|t2i|>` (text to image): text is causal; queries from `<|soi|>` to `<|eoi|>` see everything, so text never
      sees the image and its keys stay the same over all denoising steps.
    - neither: causal.
    No query sees a `[PAD]` key, wherever the padding stands, but a padded query itself: what it computes reaches
    nobody, and a query that saw nothing at all would be NaN in some attention kernels.
    """
    length = input_ids.shape[1]
    position = torch.arange(length, device=input_ids.device)
    rule = (position[:, None] >= position[None, :]).expand(len(input_ids), -1, -1)

    is_understanding = (input_ids == config.special_id("<|mmu|>")).any(1)
    is_generation = (input_ids == config.special_id("<|t2i|>")).any(1)
    start = (input_ids == config.special_id("<|soi|>")).int().argmax(1)
    end = (input_ids == config.special_id("<|eoi|>")).int().argmax(1)
    up_to_image_end = position <= end[:, None]
    in_image = up_to_image_end & (position >= start[:, None])

    task = (input_ids == config.special_id("<|mmu|>")).int().argmax(1)
    between = (position > start[:, None]) & (position < end[:, None])
    prefix = torch.where((start > task + 1)[:, None], between, up_to_image_end)
    rule = rule | (is_understanding[:, None] & prefix)[:, None, :]
    rule = rule | (is_generation[:, None] & in_image)[:, :, None]
    rule = rule & (input_ids != config.pad_id)[:, None, :]
    return (rule | (position[:, None] == position))[:, None]


def additive(rule: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean rule -> what attention adds to its scores: 0, or the lowest finite number of `dtype`.

    Attention takes both, and runs the same kernels on both. This one is computed once a call; a boolean rule would be
    turned into it again by every layer. Finite, because a query that sees no key at all would turn into NaN.
    """
    return torch.zeros_like(rule, dtype=dtype).masked_fill(~rule, torch.finfo(dtype).min)


__all__ = ["additive", "attention_rule"]
