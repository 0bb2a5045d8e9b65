"""Images, codes out: the engine against the plain loop, and against what the count of operations promises."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.counting import head_flops, layer_flops
from benchmarks.loops import t2i_loop
from benchmarks.split import Split
from uniface_ray.engine.image import ImageRunner, ImageSequence
from uniface_ray.engine.lane import Lane
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.drawing import DrawRequest, DrawSettings
from uniface_ray.model.unmasking import plan

PROMPT_TOKENS = 20
SETTINGS = DrawSettings(steps=18, guidance=5)


def prompts(
    model: UniFaceForConditionalGeneration, count: int, settings: DrawSettings = SETTINGS
) -> list[ImageSequence]:
    """Prompts of one length."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, model.config.text_vocab_size, (count, PROMPT_TOKENS), generator=generator).tolist()
    return [ImageSequence(number, DrawRequest(text, number, settings)) for number, text in enumerate(ids)]


@torch.inference_mode()
def draw(model: UniFaceForConditionalGeneration, asked: Sequence[ImageSequence], slots: int) -> dict[str, Any]:
    """Draw all, and say how fast and where the time went."""
    lane = Lane(ImageRunner(model), slots, slots)
    for one in asked:
        lane.scheduler.add(one)
    with Split(model) as split:
        while len(lane):
            lane.step()
    return {
        "slots": slots,
        "images": len(asked),
        "images_per_s": round(len(asked) / split.total_s, 4),
        "shares": split.shares(),
        "denoise_flop_per_s": len(asked) * _layers(model) / split.seconds["denoise"],
    }


def plain(model: UniFaceForConditionalGeneration, asked: Sequence[ImageSequence]) -> tuple[float, list[Tensor]]:
    """Images per second of the plain loop, and their codes."""
    start = time.perf_counter()
    codes = [t2i_loop(model, one.request) for one in asked]
    return len(asked) / (time.perf_counter() - start), codes


def promised(model: UniFaceForConditionalGeneration) -> float:
    """How many times fewer operations the engine needs than the plain loop, for one image of `SETTINGS`."""
    config = model.config
    count, whole = config.num_image_tokens, config.max_text_length + config.num_image_tokens + 3
    known = plan(count, count, SETTINGS).unknown
    masked = [count, *known[:-1]]
    naive = 2 * len(known) * (layer_flops(config, whole, whole) + head_flops(config, whole, config.vocab_size))
    ours = _layers(model) + 2 * sum(head_flops(config, places, config.codebook_size) for places in masked)
    return naive / ours


def _layers(model: UniFaceForConditionalGeneration) -> float:
    """Operations of the layers for one image: with prompt and without, at every step."""
    config, image = model.config, model.config.num_image_tokens + 2
    return 2 * SETTINGS.steps * layer_flops(config, image, image + PROMPT_TOKENS + 3)


def same(asked: Sequence[ImageSequence], codes: Sequence[Tensor]) -> dict[str, int]:
    """Images of the engine against those of the plain loop, from the start of `asked`."""
    equal = [one.codes == other for one, other in zip(asked, codes, strict=False) if one.codes is not None]
    return {
        "images": len(equal),
        "equal": sum(bool(one.all()) for one in equal),
        "codes that differ": sum(int((~one).sum()) for one in equal),
    }
