"""A replica that is fed blocks of rows: does their size matter, and are its slots full?

    python -m benchmarks.feeding [--rows 640] [--rounds 5] [--slots 64] [--threads 2]

Answers of 5 to 100 tokens, from the tiny network with random weights. Blocks go to the engine one at a time, and as
many at a time as a replica of the job takes (`batch.job.Job.calls`). Prints JSON and keeps it in benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import about, save
from benchmarks.sizes import TINY, build
from benchmarks.texts import spread_lengths
from uniface_ray.batch.job import calls_for
from uniface_ray.engine.aside import aside
from uniface_ray.engine.protocol import Ask
from uniface_ray.engine.shared import SharedEngine
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceProcessor

BLOCKS = (16, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5, help="of all runs, in turn; medians count")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = aside(lambda: _engine(Path(folder), given.slots, given.threads))
        shared = SharedEngine(engine)
        asked = _asked(engine.image_size, given.rows)
        _run(engine, shared, asked[: given.slots], given.slots, 1)  # kernels and caches are made at first use
        ways = [(block, calls) for block in BLOCKS for calls in (1, calls_for(given.slots, block))]
        runs = []
        for _ in range(given.rounds):
            runs.append([_run(engine, shared, asked, block, calls) for block, calls in ways])
            print(json.dumps(runs[-1]), flush=True)
    ratios = [small["rows_per_s"] / large["rows_per_s"] for _, small, _, large in runs]
    result = {
        **about("benchmarks.feeding"),
        "slots": given.slots,
        "rounds": runs,
        "rows_per_s_of_small_blocks_to_large": {
            "median": round(statistics.median(ratios), 3),
            "all": [round(ratio, 3) for ratio in ratios],
        },
    }
    print(json.dumps(result, indent=1))
    save(result, "feeding")


def _engine(folder: Path, slots: int, threads: int) -> UniFaceEngine:
    model = build("tiny")
    model.config.eos_token_id = (
        model.config.text_vocab_size - 1
    )  # not drawn in practice: lengths are what was asked for
    model.save_pretrained(folder)
    UniFaceProcessor(UniFaceProcessor.from_pretrained(TINY).tokenizer, model.config).save_pretrained(folder)
    return UniFaceEngine(folder, batch_size=slots, threads=threads)


def _asked(side: int, rows: int) -> list[Ask]:
    pictures = np.random.default_rng(0).integers(0, 256, (rows, 3, side, side), dtype=np.uint8)
    lengths = spread_lengths(rows)
    return [Ask(picture, "who is it?", length) for picture, length in zip(pictures, lengths, strict=True)]


class _Occupancy:
    """Slots in use at each step of decoding, seen from outside, while rows are left to be asked."""

    def __init__(self, engine: UniFaceEngine) -> None:
        self.engine, self.step = engine, engine.step
        self.full: list[int] = []

    def __call__(self) -> Any:
        ended = self.step()
        self.full.append(len(self.engine._texts.scheduler.running) + len(ended))
        return ended


def _run(engine: UniFaceEngine, shared: SharedEngine, asked: Sequence[Ask], block: int, calls: int) -> dict[str, Any]:
    blocks = [asked[start : start + block] for start in range(0, len(asked), block)]
    watched = _Occupancy(engine)
    engine.step = watched  # type: ignore[method-assign]  # to see every step from outside
    start = time.perf_counter()
    with ThreadPoolExecutor(calls) as pool:
        found = list(pool.map(lambda some: shared.run(some, lambda: None)[0], blocks))
    took_s = time.perf_counter() - start
    del engine.step
    assert sum(map(len, found)) == len(asked)
    # The end of a run has nothing left to fill slots with, in whatever blocks it came.
    steady = watched.full[: -max(one.max_new_tokens for one in asked)] or watched.full
    return {
        "rows_of_a_block": block,
        "blocks_at_a_time": calls,
        "rows_per_s": round(len(asked) / took_s, 2),
        "occupancy": round(sum(steady) / len(steady) / engine.batch_size, 3),
    }


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
