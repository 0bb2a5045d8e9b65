"""What the job does, without Ray and without its bookkeeping: one process, one loop.

    python -m benchmarks.plain source.path=... sink.path=...

It reads the files of a folder, decodes them, asks the same engine and writes parquet files of the same columns, and
prints the rows per second from the first file written to the last as JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.core.compose import compose
from uniface_ray.core.config import JobConfig
from uniface_ray.core.records import row_id_of, seed_of
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.protocol import Ask, Text


def run(config: JobConfig) -> float:
    """Rows per second in steady state."""
    sink = Path(config.sink.path)
    sink.mkdir(parents=True)
    engine = build_engine(config, "cpu", "float32", config.engine.threads or os.cpu_count())
    paths = sorted(Path(config.source.path).iterdir())
    first_s, rows = 0.0, 0
    for start in range(0, len(paths), config.run.chunk_rows):
        chunk = paths[start : start + config.run.chunk_rows]
        ids = [row_id_of(path.name, 0) for path in chunk]
        seeds = [seed_of(config.run.seed, row_id) for row_id in ids]
        pixels = [fit_square(decode_image(path.read_bytes(), 64_000_000), engine.image_size) for path in chunk]
        requests = [_request(one, seed, config) for one, seed in zip(pixels, seeds, strict=True)]
        texts = [result.text if isinstance(result, Text) else None for result in engine.run(requests)]
        table = pa.table(
            {
                "row_id": pa.array(ids, pa.int64()),
                "parent_id": pa.nulls(len(ids), pa.int64()),
                "uri": [str(path) for path in chunk],
                "task": ["caption"] * len(ids),
                "model": [config.model.name] * len(ids),
                "seed": pa.array(seeds, pa.int64()),
                "caption": pa.array(texts, pa.string()),
            }
        )
        pq.write_table(table, sink / f"part-{start:08d}.parquet", compression="zstd")
        rows += len(chunk) if first_s else 0
        first_s = first_s or time.monotonic()
    return rows / (time.monotonic() - first_s)


def _request(pixels: np.ndarray, seed: int, config: JobConfig) -> Ask:
    return Ask(pixels, config.task.question, config.task.max_new_tokens, seed)


if __name__ == "__main__":
    print(json.dumps({"rows_per_s": run(compose("caption", sys.argv[1:]))}))
