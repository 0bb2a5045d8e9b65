"""What prompts and drawing spend their time on: torch's profiler over the passes of the transformer."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks import images, texts
from benchmarks.split import part_of
from uniface_ray.model import UniFaceForConditionalGeneration

_GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_attention_math"),
    "norms": ("aten::native_layer_norm",),
    "activation": ("aten::gelu",),
    "sums, products and copies": (
        *("aten::add", "aten::add_", "aten::mul", "aten::neg", "aten::cat", "aten::copy_", "aten::fill_"),
        *("aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_select", "aten::masked_fill_"),
    ),
}
_REST = "other operations"
_PYTHON = "Python between them"


def shares(
    model: UniFaceForConditionalGeneration, slots: dict[str, int], peak_flop_per_s: float
) -> dict[str, dict[str, Any]]:
    """Of `prefill` and `denoise`: share of the time by kind of operation, and how fast the matrix products are.

    Args:
        model: float32, on the CPU.
        slots: of each of the two, all of them full.
        peak_flop_per_s: of a large matrix product.
    """
    return {
        "prefill": _profiled(model, "prefill", slots["prefill"], peak_flop_per_s),
        "denoise": _profiled(model, "denoise", slots["denoise"], peak_flop_per_s),
    }


def _profiled(model: UniFaceForConditionalGeneration, part: str, slots: int, peak: float) -> dict[str, Any]:
    def work() -> None:
        if part == "prefill":
            texts.answer(model, texts.questions(model, [1] * slots), slots)
        else:
            images.draw(model, images.prompts(model, slots), slots)

    work()
    seconds: Counter[str] = Counter()
    with _recorded(model, part, seconds) as operations:
        work()
    total = seconds.pop("all")
    known = {group: sum(seconds[name] for name in names) for group, names in _GROUPS.items()}
    known[_REST] = sum(seconds.values()) - sum(known.values())
    known[_PYTHON] = total - sum(seconds.values())
    products = known["matrix products"]
    return {
        "slots": slots,
        "shares": {group: round(spent / total, 3) for group, spent in known.items()},
        "matrix_products_of_peak": round(operations["flops"] / products / peak, 3),
    }


@contextmanager
def _recorded(model: UniFaceForConditionalGeneration, part: str, seconds: Counter[str]) -> Iterator[Counter[str]]:
    """Fills `seconds` with the own time of each operation in passes of this part, and `all` of it; gives operations."""
    method, counted = model.hidden_states, Counter({"flops": 0})

    def call(*arguments: Any, **named: Any) -> Any:
        if part_of(model, arguments[0]) != part:
            return method(*arguments, **named)
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as record:
            start = time.perf_counter()
            result = method(*arguments, **named)
            seconds["all"] += time.perf_counter() - start
        for event in record.key_averages():
            seconds[event.key] += event.self_cpu_time_total / 1e6
            if event.key in _GROUPS["matrix products"]:
                counted["flops"] += event.flops
        return result

    model.hidden_states = call  # type: ignore[method-assign]  # to see every pass from outside
    try:
        yield counted
    finally:
        model.__dict__.pop("hidden_states", None)  # `Split`, inside, has taken it away with its own
