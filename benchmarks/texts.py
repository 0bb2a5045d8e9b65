"""Answers: the engine against the plain loop and against transformers' own `generate`."""

import random
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.counting import decode_bytes, layer_flops
from benchmarks.loops import mmu_loop
from benchmarks.split import Split
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.text import TextRunner, TextSequence
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import understanding_ids

QUESTION_TOKENS = 12
NEAR_TIE = 1e-4


def questions(model: UniFaceForConditionalGeneration, lengths: Sequence[int]) -> list[TextSequence]:
    """One question about each of as many images; answers of just these lengths."""
    config, chance = model.config, random.Random(0)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(config.codebook_size, (len(lengths), config.num_image_tokens), generator=generator)
    text = range(1, config.text_vocab_size)
    return [
        TextSequence(
            id=number,
            image=number.to_bytes(4, "big"),
            picture=codes[number],
            prompt=[config.bos_token_id, *chance.choices(text, k=QUESTION_TOKENS)],
            max_new_tokens=length,
            stop_ids=frozenset(),
        )
        for number, length in enumerate(lengths)
    ]


@torch.inference_mode()
def answer(model: UniFaceForConditionalGeneration, asked: Sequence[TextSequence], slots: int) -> dict[str, Any]:
    """Answer all, and say how fast, how full the slots were, and where the time went."""
    runner = TextRunner(model, slots)
    lane = Lane(runner, slots, most_entering=max(1, 4096 // runner.prefix))
    for one in asked:
        lane.scheduler.add(one)
    full: list[int] = []
    with Split(model) as split:
        while len(lane):
            if waited := bool(lane.scheduler.waiting):
                full.append(min(slots, len(lane)))
            ended = lane.step()
            if waited:
                full[-1] = len(lane.scheduler.running) + len(ended)
    tokens = sum(len(one.tokens) for one in asked)
    return {
        "slots": slots,
        "rows": len(asked),
        "rows_per_s": round(len(asked) / split.total_s, 3),
        "tokens_per_s": round(tokens / split.total_s, 1),
        "occupancy_while_rows_wait": round(sum(full) / len(full) / slots, 3) if full else None,
        "shares": split.shares(),
        "seconds": {part: round(seconds, 3) for part, seconds in split.seconds.items()},
        "steps": dict(split.steps),
    }


def speeds(model: UniFaceForConditionalGeneration, run: dict[str, Any], length: int) -> dict[str, float]:
    """FLOP/s of prefill and bytes/s of decoding in a run of `answer`, all of whose answers had `length` tokens."""
    config, rows, slots = model.config, run["rows"], run["slots"]
    prefix = config.num_image_tokens + 3
    prompts = layer_flops(config, prefix, prefix) + layer_flops(config, QUESTION_TOKENS, prefix + QUESTION_TOKENS)
    keys = prefix + QUESTION_TOKENS + length // 2
    moved = run["steps"]["decode"] * decode_bytes(config, min(rows, slots), keys)
    return {
        "prefill_flop_per_s": rows * prompts / run["seconds"]["prefill"],
        "decode_bytes_per_s": moved / (run["seconds"]["decode"] + run["seconds"]["head"]),
    }


def plain(model: UniFaceForConditionalGeneration, asked: Sequence[TextSequence]) -> tuple[float, list[Any]]:
    """Rows per second of the plain loop, and what it answered."""
    start = time.perf_counter()
    answers = [
        mmu_loop(model, understanding_ids(model.config, one.prompt[1:], one.picture), one.max_new_tokens)
        for one in asked
    ]
    return len(asked) / (time.perf_counter() - start), answers


def compare(asked: Sequence[TextSequence], answers: Sequence[tuple[list[int], list[float]]]) -> dict[str, int]:
    """Answers of the engine against those of the plain loop, from the start of `asked`."""
    counts = {"equal": 0, "parted at a near tie": 0, "different": 0}
    for one, (tokens, gaps) in zip(asked, answers, strict=False):
        parted = next((i for i, (a, b) in enumerate(zip(one.tokens, tokens, strict=True)) if a != b), None)
        name = "equal" if parted is None else "parted at a near tie" if gaps[parted] < NEAR_TIE else "different"
        counts[name] += 1
    return counts


@torch.inference_mode()
def generate(model: UniFaceForConditionalGeneration, asked: Sequence[TextSequence]) -> float:
    """Rows per second of what one would write with transformers: `generate` of the same backbone, as one batch."""
    ids = torch.stack([understanding_ids(model.config, one.prompt[1:], one.picture) for one in asked])
    length = asked[0].max_new_tokens
    start = time.perf_counter()
    model.showo.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        min_new_tokens=length,
        do_sample=False,
        pad_token_id=model.config.pad_id,
    )
    return len(asked) / (time.perf_counter() - start)


def spread_lengths(count: int, low: int = 5, high: int = 100) -> list[int]:
    """Lengths spread evenly, in a random order."""
    lengths = [low + (high + 1 - low) * place // count for place in range(count)]
    random.Random(0).shuffle(lengths)
    return lengths
