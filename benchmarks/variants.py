"""The same work in other ways: lower precision, compiled, with another number of threads; and what it changes."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import images, texts
from benchmarks.sizes import build
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.engine.compiling import compile_transformer
from uniface_ray.engine.image import ImageSequence
from uniface_ray.engine.text import TextSequence
from uniface_ray.model import UniFaceForConditionalGeneration

# Where replicas of processes of their own wait for each other.
_together: Any = None


@dataclass(frozen=True)
class Load:
    """How much to measure with.

    Attributes:
        answers: at a time.
        tokens: of each.
        drawings: at a time.
    """

    answers: int
    tokens: int
    drawings: int


@dataclass(frozen=True)
class Measured:
    """One way: rates, and what came out."""

    rows_per_s: float
    images_per_s: float
    flop_per_s: float
    asked: Sequence[TextSequence]
    drawn: Sequence[ImageSequence]


def measure(model: UniFaceForConditionalGeneration, load: Load) -> Measured:
    """Both kinds of work."""
    asked, drawn = texts.questions(model, [load.tokens] * load.answers), images.prompts(model, load.drawings)
    answered, done = texts.answer(model, asked, load.answers), images.draw(model, drawn, load.drawings)
    return Measured(answered["rows_per_s"], done["images_per_s"], done["denoise_flop_per_s"], asked, drawn)


def against(one: Measured, other: Measured) -> dict[str, float]:
    """How many times as fast as `other`, and how much of what it gave comes out again."""
    tokens = [
        a == b for x, y in zip(one.asked, other.asked, strict=True) for a, b in zip(x.tokens, y.tokens, strict=True)
    ]
    codes = [(x.codes == y.codes).float().mean().item() for x, y in zip(one.drawn, other.drawn, strict=True)]  # type: ignore[union-attr]  # all are drawn
    return {
        "answers_times": round(one.rows_per_s / other.rows_per_s, 3),
        "images_times": round(one.images_per_s / other.images_per_s, 3),
        "tokens_equal": round(sum(tokens) / len(tokens), 4),
        "codes_equal": round(sum(codes) / len(codes), 4),
    }


def threads(size: str, model: UniFaceForConditionalGeneration, load: Load) -> dict[str, float]:
    """One replica of two threads, and two of one thread each, against one of one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = measure(model, load)
    torch.set_num_threads(2)
    both = measure(model, load)
    torch.set_num_threads(before)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _be_one_of_two, [context.Barrier(2)]) as pool:
        rates = list(pool.map(_rates, [size] * 2, [load] * 2))
    return {
        "answers_of_two_threads": round(both.rows_per_s / one.rows_per_s, 3),
        "images_of_two_threads": round(both.images_per_s / one.images_per_s, 3),
        "answers_of_two_replicas": round(sum(rows for rows, _ in rates) / one.rows_per_s, 3),
        "images_of_two_replicas": round(sum(images for _, images in rates) / one.images_per_s, 3),
    }


def _be_one_of_two(barrier: Any) -> None:
    global _together
    torch.set_num_threads(1)
    keep_freed_memory()
    _together = barrier


def _rates(size: str, load: Load) -> tuple[float, float]:
    """Of answers and images, while the other replica works too."""
    model = build(size)
    _together.wait()
    found = measure(model, load)
    return found.rows_per_s, found.images_per_s


def precision(model: UniFaceForConditionalGeneration, load: Load, peak: float) -> dict[str, float]:
    """bfloat16 against float32; `model` stays in bfloat16."""
    before = measure(model, load)
    model.showo.to(torch.bfloat16)
    after = measure(model, load)
    return against(after, before) | {"denoise_of_matmul_peak": after.flop_per_s / peak}


def compiled(model: UniFaceForConditionalGeneration, load: Load) -> dict[str, Any]:
    """Compiled against not; `model` stays compiled."""
    before = measure(model, load)
    compile_transformer(model)
    start = time.perf_counter()
    measure(model, load)
    took_s = time.perf_counter() - start
    return against(measure(model, load), before) | {"first_time_s": round(took_s, 1)}
