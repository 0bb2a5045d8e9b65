"""What it costs to lose nothing: the job against the same pipeline and task code without anything that makes it safe.

    python -m benchmarks.safety_cost [--pairs 3] [--faces 1200] [--images 20000] [--prompts 200000]

Three loads: captions by uniface-tiny, by two replicas; more images through the null engine, which answers at once, so
that decoding is all there is to do; and prompts through the null engine, where nothing is but packing and writing. Each
is run with (`uniface`) and without (`benchmarks.bare`) in turn. Rates are of the steady state, between the first and
the last file of the output. Results go to benchmarks/results/.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.faces import make_faces, repeated
from benchmarks.record import about, save
from benchmarks.scale import write_prompts

LOADS = ["captions", "null images", "null prompts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="of runs of each load, whose median ratio counts")
    parser.add_argument("--faces", type=int, default=1200, help="to caption")
    parser.add_argument("--images", type=int, default=20_000, help="the faces again and again, for the null engine")
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument(
        "--only", nargs="+", choices=LOADS, default=LOADS, help="some of the loads, into a result file of their own"
    )
    given = parser.parse_args()
    name_of_file = "-".join(["safety-cost", *([] if given.only == LOADS else given.only)]).replace(" ", "-")
    result: dict[str, Any] = {**about("benchmarks.safety_cost"), "loads": {}}
    with tempfile.TemporaryDirectory(prefix="uniface-cost-") as temporary:
        work = Path(temporary)
        faces = make_faces(work / "faces", given.faces)
        many = repeated(faces, work / "many", given.images)
        prompts = write_prompts(work / "prompts", given.prompts)
        loads = {
            "captions": ["caption", f"source.path={faces}", "run.chunk_rows=64", "engine.replicas=2"],
            "null images": ["caption", f"source.path={many}", "engine.kind=null"],
            "null prompts": ["generate", f"source.path={prompts}", "run.chunk_rows=5000", "engine.kind=null"],
        }
        for name in given.only:
            pairs = [_pair(loads[name], work / f"{name}-{number}") for number in range(given.pairs)]
            ratio = statistics.median(pair["ratio"] for pair in pairs)
            result["loads"][name] = {"command": loads[name], "pairs": pairs, "ratio": round(ratio, 3)}
            print(f"{name}: {ratio:.3f}", flush=True)
            save(result, name_of_file)
    print(json.dumps(result, indent=1))


def _pair(words: Sequence[str], folder: Path) -> dict[str, float]:
    bare = _rate("benchmarks.bare", words, folder / "bare")
    safe = _rate("uniface_ray.cli", words, folder / "safe")
    print(f"  bare {bare:,.1f} rows/s, safe {safe:,.1f} rows/s", flush=True)
    return {"bare_rows_per_s": round(bare, 1), "safe_rows_per_s": round(safe, 1), "ratio": round(safe / bare, 3)}


def _rate(module: str, words: Sequence[str], sink: Path) -> float:
    """Rows a second, from the first file of the output to the last."""
    command = [sys.executable, "-m", module, *words, f"sink.path={sink}", "report.images=false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    files = sorted((path.stat().st_mtime, path) for path in (sink / "data").rglob("*.parquet"))
    rows = sum(pq.read_metadata(path).num_rows for _, path in files[1:])
    return rows / (files[-1][0] - files[0][0])


if __name__ == "__main__":
    main()
