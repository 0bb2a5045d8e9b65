"""The caption job against one plain process, and its memory as the number of rows grows.

    python -m benchmarks.caption [--rows 2000] [--pairs 3] [--many 20000]

Both caption the same faces with the same weights on this machine's CPU, in turn, several times: the process with as
many threads as there are cores, the job with the replicas it finds to pay, and with one of as many threads. Rates are
of the steady state: from the first commit to the last. Results go to benchmarks/results/, with the date.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.faces import make_faces, repeated
from benchmarks.memory import Peaks
from benchmarks.record import about, save
from uniface_ray.batch.commit import Marker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3, help="0 measures memory only, into a file of its own")
    parser.add_argument("--many", type=int, default=20_000, help="rows of the second memory measurement")
    given = parser.parse_args()
    name = "caption" if given.pairs else "memory"
    with tempfile.TemporaryDirectory(prefix="uniface-bench-") as temporary:
        work = Path(temporary)
        faces = make_faces(work / "faces", given.rows)
        pairs = [_pair(faces, work, number) for number in range(given.pairs)]
        result: dict[str, Any] = {**about("benchmarks.caption"), "rows": given.rows}
        if pairs:
            result |= {"pairs": pairs, "ratio": round(statistics.median(pair["ratio"] for pair in pairs), 3)}
            save(result, name)
        many = repeated(faces, work / "many", given.many)
        result["peak_memory_mib"] = {
            str(rows): _memory(folder, work) for rows, folder in ((given.rows, faces), (given.many, many))
        }
    save(result, name)
    print(json.dumps(result, indent=1))


def _pair(faces: Path, work: Path, number: int) -> dict[str, float]:
    plain = float(json.loads(_run("benchmarks.plain", faces, work / f"plain-{number}").splitlines()[-1])["rows_per_s"])
    rates = []
    for name, words in (("job", []), ("one", ["engine.replicas=1"])):
        _run("uniface_ray.cli", faces, work / f"{name}-{number}", *words)
        rates.append(steady_rate(work / f"{name}-{number}"))
    job, one = rates
    print(f"pair {number}: plain {plain:.1f} rows/s, job {job:.1f}, with one replica {one:.1f}", flush=True)
    return {
        "plain_rows_per_s": round(plain, 2),
        "job_rows_per_s": round(job, 2),
        "ratio": round(job / plain, 3),
        "one_replica_rows_per_s": round(one, 2),
        "one_replica_ratio": round(one / plain, 3),
    }


def _run(module: str, faces: Path, sink: Path, *more: str) -> str:
    command = ["caption"] if module == "uniface_ray.cli" else []
    words = [sys.executable, "-m", module, *command, f"source.path={faces}", f"sink.path={sink}", *more]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def steady_rate(sink: Path) -> float:
    """Rows per second between the first and the last marker of a run."""
    markers = [Marker.from_json(path.read_bytes()) for path in (sink / "checkpoint").iterdir()]
    return rate_of(sorted(markers, key=lambda marker: marker.committed_at))


def rate_of(markers: Sequence[Marker]) -> float:
    """The same, of markers in order of time."""
    first, last = (datetime.fromisoformat(markers[i].committed_at) for i in (0, -1))
    return sum(marker.input for marker in markers[1:]) / (last - first).total_seconds()


def _memory(faces: Path, work: Path) -> dict[str, Any]:
    sink = work / f"memory-{faces.name}"
    words = [sys.executable, "-m", "uniface_ray.cli", "caption", f"source.path={faces}", f"sink.path={sink}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    with Peaks(process.pid) as peaks:
        if process.wait():
            raise SystemExit(f"the job failed with exit code {process.returncode}")
    return {
        "driver": round(peaks.driver),
        "workers": round(peaks.workers),
        "object_store": round(peaks.shared),
        "rows_per_s": round(steady_rate(sink), 2),
    }


if __name__ == "__main__":
    main()
