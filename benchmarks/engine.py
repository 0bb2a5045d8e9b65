"""The engine against plain loops: answers and images a second by batch size, where the time goes, and how near to what
the machine can do.

    python -m benchmarks.engine [--sizes tiny bench-100m] [--parts text image] [--threads 2] [--requests 10000]

Some ten minutes on two cores; `--parts compiled`, which takes many more, is left out unless it is asked for. All ratios
are of one run. Results go to benchmarks/results/ as JSON, with a plot beside it; a table is printed.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import images, profiled, texts, variants
from benchmarks.chart import plot
from benchmarks.counting import best_s, matmul_peak, memory_peak
from benchmarks.growth import growth
from benchmarks.sizes import build
from uniface_ray.core.run_facts import versions
from uniface_ray.engine.allocator import keep_freed_memory
from uniface_ray.model import UniFaceForConditionalGeneration

TOKENS = 40
# Rows of each run: enough for a steady state, few enough for two cores.
TEXT_SLOTS = {"tiny": (1, 8, 64, 128), "bench-100m": (1, 8, 64)}
IMAGE_SLOTS = {"tiny": (1, 4, 16), "bench-100m": (1, 4)}
OCCUPANCY = {"tiny": (16, 96), "bench-100m": (12, 48)}  # slots, rows
VARIANTS = {"tiny": variants.Load(32, TOKENS, 8), "bench-100m": variants.Load(16, 20, 2)}
PARTS = ("text", "occupancy", "image", "profile", "tokenizer", "threads", "precision")
PLAIN = {"tiny": 4, "bench-100m": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["tiny", "bench-100m"], choices=["tiny", "bench-100m"])
    parser.add_argument(
        "--parts", nargs="+", default=PARTS, choices=(*PARTS, "compiled"), help="what to measure of each size"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--requests", type=int, default=10_000, help="answers of the memory measurement; 0 leaves it out"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m benchmarks.engine", *sys.argv[1:]]),
        "machine": {"cores": os.cpu_count(), "threads": given.threads, "system": platform.platform()},
        "versions": versions(),
        "sizes": {},
    }
    target = given.out / f"{result['date']}-engine.json"
    if target.exists():  # sizes and parts may be measured one after the other, each against the peaks of its own run
        before = json.loads(target.read_text())
        result = before | {"command": f"{before['command']}; {result['command']}"}
    for size in given.sizes:
        peaks = {
            "float32_flop_per_s": matmul_peak(torch.float32),
            "bfloat16_flop_per_s": matmul_peak(torch.bfloat16),
            "memory_bytes_per_s": memory_peak(),
        }
        model = build(size)
        parameters = sum(one.numel() for one in model.showo.parameters())
        found = result["sizes"].setdefault(size, {"parameters": parameters, "peaks": peaks})
        for name in given.parts:
            found[name] = _parts(size)[name](model, peaks)
            print(f"{size}: {name}\n{json.dumps(found[name], indent=1)}", flush=True)
            _save(result, target)
    if given.requests:
        result["memory"] = growth(given.requests)
        _save(result, target)
    print(table(result))


def _parts(size: str) -> dict[str, Callable[..., dict[str, Any]]]:
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        "text": partial(text, size),
        "occupancy": partial(occupancy, size),
        "image": partial(image, size),
        "profile": lambda model, peaks: profiled.shares(
            model, {"prefill": TEXT_SLOTS[size][-1], "denoise": IMAGE_SLOTS[size][-1]}, peaks["float32_flop_per_s"]
        ),
        "tokenizer": tokenizer,
        "threads": lambda model, _: variants.threads(size, model, VARIANTS[size]),
        "precision": lambda model, peaks: variants.precision(model, VARIANTS[size], peaks["bfloat16_flop_per_s"]),
        "compiled": lambda model, _: variants.compiled(model, VARIANTS[size]),
    }
    return parts


def text(size: str, model: UniFaceForConditionalGeneration, peaks: dict[str, float]) -> dict[str, Any]:
    """Answers of 40 tokens."""
    slots = TEXT_SLOTS[size]
    some = texts.questions(model, [TOKENS] * PLAIN[size])
    plain_rate, answers = texts.plain(model, some)
    runs = []
    for count in slots:
        asked = texts.questions(model, [TOKENS] * max(count, PLAIN[size]))
        runs.append(texts.answer(model, asked, count))
        runs[-1]["compared"] = texts.compare(asked, answers)
    speeds = texts.speeds(model, runs[-1], TOKENS)
    generate = texts.generate(model, texts.questions(model, [TOKENS] * slots[-1]))
    best = max(run["rows_per_s"] for run in runs)
    return {
        "plain_rows_per_s": plain_rate,
        "generate_rows_per_s": generate,
        "runs": runs,
        "times_plain": best / plain_rate,
        "times_generate": best / generate,
        "prefill_of_matmul_peak": speeds["prefill_flop_per_s"] / peaks["float32_flop_per_s"],
        "decode_of_memory_peak": speeds["decode_bytes_per_s"] / peaks["memory_bytes_per_s"],
    }


def occupancy(size: str, model: UniFaceForConditionalGeneration, _: dict[str, float]) -> dict[str, Any]:
    """Answers of 5 to 100 tokens, many more than there are slots."""
    slots, rows = OCCUPANCY[size]
    return texts.answer(model, texts.questions(model, texts.spread_lengths(rows)), slots)


def image(size: str, model: UniFaceForConditionalGeneration, peaks: dict[str, float]) -> dict[str, Any]:
    """Images of 18 steps with guidance 5, codes out."""
    plain_rate, codes = images.plain(model, images.prompts(model, PLAIN[size]))
    runs = []
    for slots in IMAGE_SLOTS[size]:
        asked = images.prompts(model, max(slots, PLAIN[size]))
        runs.append(images.draw(model, asked, slots))
        runs[-1]["compared"] = images.same(asked, codes)
    best = max(runs, key=lambda run: run["images_per_s"])
    promised = images.promised(model)
    return {
        "plain_images_per_s": plain_rate,
        "runs": runs,
        "times_plain": best["images_per_s"] / plain_rate,
        "promised_by_operations": promised,
        "of_promise": best["images_per_s"] / plain_rate / promised,
        "denoise_of_matmul_peak": best["denoise_flop_per_s"] / peaks["float32_flop_per_s"],
    }


@torch.inference_mode()
def tokenizer(model: UniFaceForConditionalGeneration, _: dict[str, float]) -> dict[str, Any]:
    """Images a second through the image tokenizer, one at a time, as it is and with channels last."""
    size = model.config.magvit_config.image_size
    pixels = torch.rand(1, 3, size, size) * 2 - 1
    codes = model.encode_images(pixels)
    found = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        model.magvit.to(memory_format=layout)
        found[f"encode_{name}_per_s"] = 1 / best_s(lambda: model.encode_images(pixels), 2)
        found[f"decode_{name}_per_s"] = 1 / best_s(lambda: model.decode_images(codes), 2)
    model.magvit.to(memory_format=torch.contiguous_format)
    return found


def table(result: dict[str, Any]) -> str:
    """The headline numbers."""
    lines = [f"{'':44}" + "".join(f"{size:>14}" for size in result["sizes"])]
    rows = {
        "answers of 40 tokens, times the plain loop": ("text", "times_plain"),
        "  times transformers' generate": ("text", "times_generate"),
        "  prefill, of the matmul peak": ("text", "prefill_of_matmul_peak"),
        "  decoding, of the memory peak": ("text", "decode_of_memory_peak"),
        "answers of 5..100 tokens, slots in use": ("occupancy", "occupancy_while_rows_wait"),
        "images, times the plain loop": ("image", "times_plain"),
        "  of what the operations promise": ("image", "of_promise"),
        "  denoising, of the matmul peak": ("image", "denoise_of_matmul_peak"),
        "answers of two threads, times one thread": ("threads", "answers_of_two_threads"),
        "answers of two replicas, times one thread": ("threads", "answers_of_two_replicas"),
        "images of two threads, times one thread": ("threads", "images_of_two_threads"),
        "images of two replicas, times one thread": ("threads", "images_of_two_replicas"),
        "answers in bfloat16, times float32": ("precision", "answers_times"),
        "  tokens as in float32": ("precision", "tokens_equal"),
        "images in bfloat16, times float32": ("precision", "images_times"),
        "  codes as in float32": ("precision", "codes_equal"),
        "  denoising, of the bfloat16 matmul peak": ("precision", "denoise_of_matmul_peak"),
        "answers compiled, times not": ("compiled", "answers_times"),
        "images compiled, times not": ("compiled", "images_times"),
    }
    for label, (part, name) in rows.items():
        values = [found.get(part, {}).get(name) for found in result["sizes"].values()]
        lines.append(f"{label:44}" + "".join(f"{'' if value is None else f'{value:.2f}':>14}" for value in values))
    return "\n".join(lines)


def _save(result: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    rates = {
        f"{size}, {what}": [
            (run["slots"], run[f"{noun}_per_s"] / found[part][f"plain_{noun}_per_s"]) for run in found[part]["runs"]
        ]
        for size, found in result["sizes"].items()
        for part, noun, what in (("text", "rows", "answers"), ("image", "images", "images"))
        if part in found
    }
    if not rates:
        return
    target.with_suffix(".svg").write_text(plot(rates, "requests at once", "times the plain loop"))


if __name__ == "__main__":
    main()
