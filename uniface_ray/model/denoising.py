"""The tensors of one step of drawing: image logits with guidance, and which tokens they make known.

Letters in shapes: R rows (images), N image tokens, C codes of K bits, G rows with guidance, P prompt positions, M
unknown tokens of all rows together, which alone go through the head.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prefix import Prefix, PrefixCache, positions
from uniface_ray.model.routing import Layout
from uniface_ray.model.sampling import gumbel, keep_likely, least, pick


class Places(NamedTuple):
    """Where the unknown tokens are.

    Attributes:
        all: (M,) int64 places in (R, N) flattened, row by row.
        guided: (H,) int64, which of them are in rows with guidance.
        rows: (G,) int64 rows with guidance.
    """

    all: Tensor
    guided: Tensor
    rows: Tensor


class Dials(NamedTuple):
    """What a step needs to know of each row.

    Attributes:
        guidance: (R,) float32 w; 0 for a row that is not among `Places.rows`.
        unknown: (R,) int64 tokens that stay unknown after this step.
        temperature: (R,) float32.
        top_k: (R,) int64, or None where no row sets it or top_p.
        top_p: (R,) float32, likewise.
        noise: (R, N, K + 1) float32 uniform numbers: for each bit of the codes, and for the confidence.
    """

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
    places: Places,
    dials: Dials,
) -> tuple[Tensor, Tensor]:
    """The tensors of one step, without a graph break: codes and unknown places (R, N) before -> after."""
    logits = guided_logits(model, codes, unknown, prompts, visible, places, dials.guidance)
    rows = places.all // codes.shape[1]
    likely = logits
    if dials.top_k is not None and dials.top_p is not None:
        likely = keep_likely(logits[:, None], dials.top_k[rows], dials.top_p[rows])[:, 0]
    noise = dials.noise.flatten(0, 1)[places.all]
    drawn = pick(likely.softmax(-1), noise[:, :-1])
    # How sure the model is, whatever it was allowed to draw: among one code all would be equally sure.
    sure = logits.log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
    confidence = torch.full_like(dials.noise[..., 0], torch.inf).flatten()
    confidence = confidence.index_copy(0, places.all, sure + dials.temperature[rows] * gumbel(noise[:, -1]))
    codes = codes.flatten().index_copy(0, places.all, drawn).view_as(codes)
    return codes, least(confidence.view_as(unknown), dials.unknown)


def guided_logits(
    model: UniFaceForConditionalGeneration,
    codes: Tensor,
    unknown: Tensor,
    prompts: Prefix,
    visible: Tensor,
    places: Places,
    guidance: Tensor,
) -> Tensor:
    """Logits of the image codes (M, C) float32 with guidance; only `<|soi|>` to `<|eoi|>` go through the layers.

    Args:
        model: in eval mode.
        codes: (R, N).
        unknown: (R, N), where the mask token stands instead.
        prompts: of the rows, and the empty prompt after them.
        visible: (R + 1, P), where they are text.
        places: of the tokens wanted; rows with guidance are computed without their prompt too.
        guidance: (R,) w.
    """
    config, (count, tokens), guided = model.config, codes.shape, places.rows
    images = torch.where(unknown, config.mask_token_id, codes + config.image_token_offset)
    soi, eoi = (images.new_full((count, 1), config.special_id(name)) for name in ("<|soi|>", "<|eoi|>"))
    ids = torch.cat([soi, images, eoi], dim=1)
    share = unknown.float().mean(1)
    ids, share = torch.cat([ids, ids[guided]]), torch.cat([share, share[guided]])
    prompt = torch.cat([torch.arange(count, device=ids.device), torch.full_like(guided, count)])
    seen = F.pad(visible[prompt], (0, ids.shape[1]), value=True)
    hidden = model.hidden_states(
        ids,
        attention_mask=seen[:, None, None, :].expand(-1, -1, ids.shape[1], -1),
        position_ids=positions(config, 0, ids.shape[1], ids.device),
        past_key_values=PrefixCache(prompts, prompt),
        use_cache=True,
        layout=Layout(generation=True, image=1),
        mask_ratio=share,
    ).last_hidden_state
    rows = places.all // tokens
    # A row's copy without prompt stands after all rows, at the row's rank among those with guidance.
    rank = torch.searchsorted(guided, rows[places.guided])
    again = (count + rank) * tokens + places.all[places.guided] % tokens
    logits = model.image_logits(hidden[:, 1:-1].flatten(0, 1)[torch.cat([places.all, again])])
    conditional, unconditional = logits[: len(rows)], logits[len(rows) :]
    weight = guidance[rows][:, None]
    return ((1 + weight) * conditional).index_add(0, places.guided, -weight[places.guided] * unconditional)


Advance = Callable[
    [UniFaceForConditionalGeneration, Tensor, Tensor, Prefix, Tensor, Places, Dials], tuple[Tensor, Tensor]
]

__all__ = ["Advance", "Dials", "Places", "advance", "guided_logits"]
