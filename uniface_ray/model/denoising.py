"""The tensors of one step of drawing: image logits with guidance, and which tokens they make known.

Letters in shapes: R rows (images), N image tokens, C codes of K bits, G rows with guidance, P prompt positions.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prefix import Prefix, PrefixCache, positions
from uniface_ray.model.sampling import gumbel, keep_likely, least, pick


class Dials(NamedTuple):
    """What a step needs to know of each row.

    Attributes:
        guided: (G,) int64 rows that have guidance.
        guidance: (R,) float32 w.
        unknown: (R,) int64 tokens that stay unknown after this step.
        temperature: (R,) float32.
        top_k: (R,) int64, or None where no row sets it or top_p.
        top_p: (R,) float32, likewise.
        noise: (R, N, K + 1) float32 uniform numbers: for each bit of the codes, and for the confidence.
    """

    guided: Tensor
    guidance: Tensor
    unknown: Tensor
    temperature: Tensor
    top_k: Tensor | None
    top_p: Tensor | None
    noise: Tensor


def advance(
    model: UniFaceForConditionalGeneration,
    codes: Tensor,
    unknown: Tensor,
    prompts: Prefix,
    visible: Tensor,
    null: Prefix,
    dials: Dials,
) -> tuple[Tensor, Tensor]:
    """The tensors of one step, without a graph break: codes and unknown places (R, N) before -> after."""
    logits = guided_logits(model, codes, unknown, prompts, visible, null, dials.guided, dials.guidance)
    likely = logits
    if dials.top_k is not None and dials.top_p is not None:
        likely = keep_likely(logits, dials.top_k, dials.top_p)
    drawn = torch.where(unknown, pick(likely.softmax(-1), dials.noise[..., :-1]), codes)
    # How sure the model is, whatever it was allowed to draw: among one code all would be equally sure.
    sure = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
    confidence = sure + dials.temperature[:, None] * gumbel(dials.noise[..., -1])
    return drawn, least(confidence.masked_fill(~unknown, torch.inf), dials.unknown)


def guided_logits(
    model: UniFaceForConditionalGeneration,
    codes: Tensor,
    unknown: Tensor,
    prompts: Prefix,
    visible: Tensor,
    null: Prefix,
    guided: Tensor,
    guidance: Tensor,
) -> Tensor:
    """Logits of the image codes (R, N, C) float32 with guidance; only `<|soi|>` to `<|eoi|>` go through the layers.

    Args:
        model: in eval mode.
        codes: (R, N).
        unknown: (R, N), where the mask token stands instead.
        prompts: of the rows.
        visible: (R, P), where they are text.
        null: the empty prompt.
        guided: (G,) rows that are computed without their prompt too.
        guidance: (R,) w.
    """
    config = model.config
    places = torch.where(unknown, config.mask_token_id, codes + config.image_token_offset)
    soi, eoi = (places.new_full((len(places), 1), config.special_id(name)) for name in ("<|soi|>", "<|eoi|>"))
    ids = torch.cat([soi, places, eoi], dim=1)
    share = unknown.float().mean(1)
    ids, share = torch.cat([ids, ids[guided]]), torch.cat([share, share[guided]])
    without = F.pad(null.visible(), (prompts.width - null.width, 0)).expand(len(guided), -1)
    seen = F.pad(torch.cat([visible, without]), (0, ids.shape[1]), value=True)
    hidden = model.hidden_states(
        ids,
        attention_mask=seen[:, None, None, :].expand(-1, -1, ids.shape[1], -1),
        position_ids=positions(config, 0, ids.shape[1], ids.device),
        past_key_values=PrefixCache(prompts, null, len(guided)),
        use_cache=True,
        generation=torch.ones(len(ids), dtype=torch.bool, device=ids.device),
        mask_ratio=share,
    ).last_hidden_state
    logits = model.image_logits(hidden[:, 1:-1])
    conditional, unconditional = logits[: len(codes)], logits[len(codes) :]
    weight = guidance[:, None, None]
    return ((1 + weight) * conditional).index_add(0, guided, -weight[guided] * unconditional)


Advance = Callable[
    [UniFaceForConditionalGeneration, Tensor, Tensor, Prefix, Tensor, Prefix, Dials], tuple[Tensor, Tensor]
]

__all__ = ["Advance", "Dials", "advance", "guided_logits"]
