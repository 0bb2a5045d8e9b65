"""Plain loops that do what Show-o's own do, to measure the engine against and to compare its results with.

Whole sequences through the whole network at every step, logits of the whole vocabulary at every position, no cache
(Show-o models/modeling_showo.py:104-240).
"""

from collections.abc import Collection

import torch
from torch import Tensor

from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.drawing import DrawRequest
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.prompts import generation_ids
from uniface_ray.model.sampling import gumbel, least, pick
from uniface_ray.model.unmasking import plan


@torch.inference_mode()
def mmu_loop(
    model: UniFaceForConditionalGeneration,
    ids: Tensor,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    features: ImageFeatures | None = None,
) -> tuple[list[int], list[float]]:
    """`mmu_generate` with top_k=1: one row, one token a pass.

    It takes the most likely text token, as the engine does; Show-o would take an image code too.

    Args:
        model: in eval mode.
        ids: (L,) int64, see `prompts.understanding_ids`.
        max_new_tokens: most tokens of the answer.
        stop_ids: any of them ends the answer.
        features: of the image, where the model has experts for them.

    Returns:
        The new tokens, and how much likelier (in logits) each step's token was than the next best.
    """
    tokens: list[int] = []
    gaps: list[float] = []
    sequence = ids[None].to(model.device)
    while len(tokens) < max_new_tokens:
        logits = model(sequence, features=features).logits.float()[0, -1, : model.config.text_vocab_size]
        best, second = logits.topk(2).values.tolist()
        token = logits.argmax()
        gaps.append(best - second)
        if token.item() in stop_ids:
            break
        tokens.append(int(token))
        sequence = torch.cat([sequence, token[None, None]], dim=1)
    return tokens, gaps


@torch.inference_mode()
def t2i_loop(model: UniFaceForConditionalGeneration, request: DrawRequest) -> Tensor:
    """`t2i_generate`: a row with its prompt and one without, whole, at every step.

    The noise, the plan of the steps and the choice of codes are the project's own, so that equal logits give equal
    codes.

    Returns:
        Codes (N,) int64.
    """
    config, settings = model.config, request.settings
    count = config.num_image_tokens
    both = torch.stack([generation_ids(config, request.text_ids), generation_ids(config, [])]).to(model.device)
    codes = torch.zeros(count, dtype=torch.int64, device=model.device)
    unknown = torch.ones(count, dtype=torch.bool, device=model.device)
    generator = torch.Generator().manual_seed(request.seed)
    image = slice(-1 - count, -1)
    for left, temperature in zip(*plan(count, count, settings), strict=True):
        both[:, image] = torch.where(unknown, config.mask_token_id, codes + config.image_token_offset)
        logits = model(both).logits.float()[:, image, config.image_token_offset : config.mask_token_id]
        guided = (1 + settings.guidance) * logits[:1] - settings.guidance * logits[1:]
        noise = torch.rand(count, config.magvit_config.latent_bits + 1, generator=generator).to(model.device)[None]
        drawn = torch.where(unknown, pick(guided.softmax(-1), noise[..., :-1]), codes)
        confidence = guided.log_softmax(-1).gather(-1, drawn[..., None])[..., 0] + temperature * gumbel(noise[..., -1])
        codes = drawn[0]
        unknown = least(confidence.masked_fill(~unknown, torch.inf), torch.tensor([left], device=model.device))[0]
    return codes
