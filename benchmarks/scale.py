"""A million prompts through the whole job with an engine that does nothing: pace, memory, and the start of a resume.

    python -m benchmarks.scale [--rows 100000 1000000] [--chunk-rows 10000]

The null engine answers at once, so what is measured is everything around a model: listing, plan, reading, packing,
supervision, commits with checksums and markers, progress, manifest, report. For each number of rows: a run to its end;
then one marker is removed and the same command is given again, which has to read the plan and all other markers before
it can do that one chunk. Memory is anonymous memory as in `memory.Peaks`, its highest and
as the run went. Results go to benchmarks/results/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import Peaks
from benchmarks.record import about, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--chunk-rows", type=int, default=10_000)
    given = parser.parse_args()
    result = {**about("benchmarks.scale"), "chunk_rows": given.chunk_rows, "runs": {}}
    with tempfile.TemporaryDirectory(prefix="uniface-scale-") as temporary:
        for rows in given.rows:
            work = Path(temporary) / str(rows)
            prompts = write_prompts(work / "prompts", rows)
            result["runs"][str(rows)] = _measure(prompts, work / "out", rows, given.chunk_rows)
            save(result, "scale")
    print(json.dumps(result, indent=1))


def write_prompts(folder: Path, rows: int, files: int = 8) -> Path:
    """A table of different prompts in a few files."""
    folder.mkdir(parents=True)
    for number in range(files):
        ids = range(number * rows // files, (number + 1) * rows // files)
        prompts = [f"a portrait of person {i}, {20 + i % 60} years old, smiling at the camera" for i in ids]
        pq.write_table(pa.table({"prompt": prompts}), folder / f"{number}.parquet")
    return folder


def command(prompts: str, sink: str, chunk_rows: int, *more: str) -> list[str]:
    """The job, as a user types it."""
    typed = [f"source.path={prompts}", f"sink.path={sink}", f"run.chunk_rows={chunk_rows}", "engine.kind=null", *more]
    return [sys.executable, "-m", "uniface_ray.cli", "generate", *typed]


def _measure(prompts: Path, sink: Path, rows: int, chunk_rows: int) -> dict[str, Any]:
    words = command(str(prompts), str(sink), chunk_rows)
    began_s = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    with Peaks(process.pid) as peaks:
        if process.wait():
            raise SystemExit(f"the job failed with exit code {process.returncode}")
    seconds = time.monotonic() - began_s
    return {
        "rows_per_s_end_to_end": round(rows / seconds, 1),
        "seconds": round(seconds, 1),
        "driver_mib": round(peaks.driver),
        "workers_mib": round(peaks.workers),
        "object_store_mib": round(peaks.shared),
        "memory_as_it_ran": _thinned(peaks.series),
        "chunks": len(list((sink / "checkpoint").iterdir())),
        "sink_bytes": sum(file.stat().st_size for file in sink.rglob("*") if file.is_file()),
        **_resume(words, sink),
        **_look(sink),
    }


def _thinned(series: list[tuple[float, float, float, int]]) -> dict[str, Any]:
    """The most of each twentieth of the run: Ray starts workers as it finds room, so memory grows at first."""
    names = ("seconds", "driver_mib", "workers_mib", "processes")
    parts = [part for part in np.array_split(np.array(series), 20) if len(part)]
    return {name: [round(part[:, column].max()) for part in parts] for column, name in enumerate(names)}


def _resume(words: list[str], sink: Path) -> dict[str, float]:
    """Seconds from the command to the first chunk that it commits, and to its end."""
    missing = max((sink / "checkpoint").iterdir())
    missing.unlink()
    began_s = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not missing.exists():
        if process.poll() is not None:
            raise SystemExit(f"the resumed job ended with exit code {process.returncode} and no chunk")
        time.sleep(0.05)
    first_s = time.monotonic() - began_s
    if process.wait():
        raise SystemExit(f"the resumed job failed with exit code {process.returncode}")
    return {"resume_to_first_chunk_s": round(first_s, 1), "resume_s": round(time.monotonic() - began_s, 1)}


def _look(sink: Path) -> dict[str, float]:
    """Seconds and memory of the commands that only look."""
    told: dict[str, float] = {}
    for name in ("status", "verify"):
        began_s = time.monotonic()
        looking = [sys.executable, "-m", "uniface_ray.cli", name, f"sink.path={sink}"]
        process = subprocess.Popen(looking, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        with Peaks(process.pid, every_s=0.1) as peaks:
            if process.wait():
                raise SystemExit(f"uniface {name} ended with exit code {process.returncode}")
        told[f"{name}_s"] = round(time.monotonic() - began_s, 1)
        told[f"{name}_mib"] = round(peaks.driver)
    return told


if __name__ == "__main__":
    main()
