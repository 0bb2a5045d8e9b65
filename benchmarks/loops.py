"""Plain loops that do what Show-o's own do, to measure the engine against and to compare its results with.

Whole sequences through the whole network at every step, logits of the whole vocabulary at every position, no cache
(Show-o models/modeling_showo.py:104-240).
"""

from collections.abc import Collection

import torch
from torch import Tensor

from uniface_ray.model import UniFaceForConditionalGeneration


@torch.inference_mode()
def mmu_loop(
    model: UniFaceForConditionalGeneration, ids: Tensor, max_new_tokens: int, stop_ids: Collection[int] = ()
) -> tuple[list[int], list[float]]:
    """`mmu_generate` with top_k=1: one row, one token a pass.

    It takes the most likely text token, as the engine does; Show-o would take an image code too.

    Args:
        model: in eval mode.
        ids: (L,) int64, see `prompts.understanding_ids`.
        max_new_tokens: most tokens of the answer.
        stop_ids: any of them ends the answer.

    Returns:
        The new tokens, and how much likelier (in logits) each step's token was than the next best.
    """
    tokens: list[int] = []
    gaps: list[float] = []
    sequence = ids[None].to(model.device)
    while len(tokens) < max_new_tokens:
        logits = model(sequence).logits.float()[0, -1, : model.config.text_vocab_size]
        best, second = logits.topk(2).values.tolist()
        token = logits.argmax()
        gaps.append(best - second)
        if token.item() in stop_ids:
            break
        tokens.append(int(token))
        sequence = torch.cat([sequence, token[None, None]], dim=1)
    return tokens, gaps
