"""Memory of an engine that answers and draws thousands of requests: it must not grow."""

import gc
import os
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.memory import memory
from benchmarks.sizes import TINY
from uniface_ray.engine.protocol import Ask, Draw, Request, Score
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.presets import tiny

_WAVE = 250


def growth(requests: int) -> dict[str, float]:
    """Resident memory after a fifth of the requests and after all of them, every tenth of them cancelled on the way."""
    backbone = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    magvit = {"image_size": 32, "base_channels": 8, "encoder_multipliers": [1, 2], "decoder_multipliers": [1, 2]}
    config = tiny(
        experts=False,
        backbone_config=backbone,
        magvit_config=magvit | {"encoder_blocks": [1, 1], "decoder_blocks": [1, 1], "latent_bits": 6, "norm_groups": 4},
    )
    with tempfile.TemporaryDirectory() as folder:
        UniFaceForConditionalGeneration(config).save_pretrained(folder)
        UniFaceProcessor(UniFaceProcessor.from_pretrained(TINY).tokenizer, config).save_pretrained(folder)
        engine = UniFaceEngine(Path(folder), batch_size=64)
    sizes = []
    for wave in range(-(-requests // _WAVE)):
        numbers = [engine.submit(one) for one in _requests(wave)]
        under_way = set(numbers)
        under_way -= {number for number, _ in engine.step()}
        for number in numbers[::10]:
            engine.cancel(number)
        under_way -= set(numbers[::10])
        while under_way:
            under_way -= {number for number, _ in engine.step()}
        gc.collect()
        sizes.append(memory(os.getpid())[0])
    return {
        "requests": len(sizes) * _WAVE,
        "mib_after_a_fifth": round(sizes[len(sizes) // 5], 1),
        "mib_after_all": round(sizes[-1], 1),
    }


def _requests(wave: int) -> list[Request]:
    chance = np.random.default_rng(wave)
    pictures = chance.integers(0, 256, (_WAVE, 3, 32, 32), dtype=np.uint8)
    kinds: list[Request] = []
    for place, picture in enumerate(pictures):
        words = "who is it? " * int(chance.integers(1, 5))
        kinds.append(Ask(picture, words, int(chance.integers(1, 30)), place, temperature=float(place % 2)))
        kinds.append(Draw(words, place, 4, float(place % 3), 1.0, "cosine"))
        kinds.append(Score(picture, words))
    return list(islice(kinds[wave % 3 :], _WAVE))
