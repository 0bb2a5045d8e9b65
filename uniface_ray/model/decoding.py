"""Text decoding with a key-value cache: many rows at once, each stopped at its end token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from uniface_ray.model.cache import GrowingCache
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.masks import attention_rule
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import left_pad

# Finished rows are taken out of the cache once they are this share of it: each time costs a copy of the rest.
_COMPACT_AT = 0.25


@torch.inference_mode()
def greedy_text(
    model: UniFaceForConditionalGeneration,
    rows: Sequence[Tensor],
    max_new_tokens: int,
    stop_id: int | None = None,
    features: ImageFeatures | None = None,
    text_only: bool = True,
) -> list[list[int]]:
    """Continue caption and VQA prompts with the most likely token each step (Show-o `mmu_generate`, top_k=1).

    The image prefix and the question are computed once; a step then costs one position a row that is still going.

    Args:
        model: in eval mode.
        rows: prompts of any lengths, see `prompts.understanding_ids`.
        max_new_tokens: most tokens of an answer.
        stop_id: a row ends at this token, which is not part of its answer; None never ends early.
        features: of the rows' images, from `model.image_features`; None for a dense model.
        text_only: choose among text ids (the end token is one) and compute no other logit. Show-o chooses among all
            ids, and so does False, which is there to compare with it; an image id says nothing in an answer.

    Returns:
        The new token ids of each row, in the order of `rows`.
    """
    answers: list[list[int]] = [[] for _ in rows]
    input_ids = left_pad(rows, model.config.pad_id).to(model.device)
    cache = GrowingCache(model.config.backbone_config.num_hidden_layers)
    generation = torch.zeros(len(rows), dtype=torch.bool, device=model.device)
    hidden = model.hidden_states(
        input_ids,
        attention_mask=attention_rule(model.config, input_ids),
        past_key_values=cache,
        use_cache=True,
        generation=generation,
        features=features,
    ).last_hidden_state
    head = model.text_logits if text_only else model.showo.lm_head
    visible = input_ids != model.config.pad_id
    alive = torch.arange(len(rows), device=model.device)
    for step in range(max_new_tokens):
        token = head(hidden[:, -1]).argmax(-1)
        for row, value in zip(alive.tolist(), token.tolist(), strict=True):
            if row >= 0:
                answers[row].append(value)
        if step + 1 == max_new_tokens:
            break
        if stop_id is not None:
            alive = torch.where(token == stop_id, -1, alive)
            going = alive >= 0
            if not bool(going.any()):
                break
            if going.float().mean() <= 1 - _COMPACT_AT:
                kept = going.nonzero()[:, 0]
                cache.batch_select_indices(kept)
                alive, token, visible = alive[kept], token[kept], visible[kept]
        visible = torch.cat([visible, visible.new_ones(len(visible), 1)], dim=1)
        hidden = model.hidden_states(
            token[:, None],
            attention_mask=visible[:, None, None],
            past_key_values=cache,
            use_cache=True,
            generation=generation[: len(token)],
        ).last_hidden_state
    return [_without_stop(answer, stop_id) for answer in answers]


def _without_stop(answer: list[int], stop_id: int | None) -> list[int]:
    return answer[:-1] if answer and answer[-1] == stop_id else answer


__all__ = ["greedy_text"]
