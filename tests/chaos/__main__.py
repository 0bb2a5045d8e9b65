"""Runs that are killed, stopped and starved at random moments, and must lose and double no row.

    make chaos                                     # thirty seeds; some half an hour
    python -m tests.chaos --first 17 --seeds 1 --keep    # one seed again, and its logs and output to look at

A real S3 server stands behind a proxy that fails; driver, replicas, decoders, Ray's workers and the server are killed
(SIGKILL) and stopped (SIGSTOP, SIGCONT) at moments drawn from the seed. Each run is started again until it ends well,
then checked by `uniface verify` and by counting ids. What is drawn is the same each time; which request or instruction
a blow meets is not. The result goes to benchmarks/results/; the exit code is 1 where a row was lost or doubled.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.record import HERE, about, save
from tests.chaos.runs import Arena, ChaosError
from tests.chaos.schedule import Schedule
from tests.s3_server import S3Server

_NAME = "chaos"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--events", type=int, default=4, help="blows a seed")
    parser.add_argument("--add", action="store_true", help="to the seeds in today's result file")
    parser.add_argument("--keep", action="store_true", help="logs and outputs; those of failures are always kept")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing is left running
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    server = S3Server(folder / "s3")
    runs = saved() if given.add else []
    failures: list[str] = []
    try:
        arena = Arena(folder, server, given.rows, _tell)
        for seed in range(given.first, given.first + given.seeds):
            try:
                one = arena.run(Schedule.drawn(seed, given.rows, given.events))
            except ChaosError as error:
                failures.append(str(error))
                _tell(str(error))
                continue
            _tell(f"seed {seed}: {'whole' if one.is_whole else 'NOT WHOLE'} {json.dumps(one.document())}")
            if not one.is_whole:
                failures.append(f"seed {seed} is not whole")
            runs.append(one.document())
            if given.seeds > 1 or given.add:
                save(_result(runs, failures, given.rows), _NAME)
    finally:
        server.stop()
        if given.keep or failures:
            _tell(f"logs and outputs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


def saved() -> list[dict[str, Any]]:
    """Today's runs so far."""
    path = HERE / "results" / f"{about('tests.chaos')['date']}-{_NAME}.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    return runs


def _result(runs: list[dict[str, Any]], failures: list[str], rows: int) -> dict[str, Any]:
    return {
        **about("tests.chaos"),
        "rows_a_seed": rows,
        "seeds": len(runs),
        "rows": rows * len(runs),
        "lost": sum(run["lost"] for run in runs),
        "doubled": sum(run["doubled"] for run in runs),
        "failures": failures,
        "attempts": sum(run["attempts"] for run in runs),
        "exit_codes": dict(Counter(code for run in runs for code in run["exit_codes"])),
        "strikes": _sum(run["strikes"] for run in runs),
        "faults": _sum(run["faults"] for run in runs),
        "runs": runs,
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in counts:
        found.update(one)
    return dict(found.most_common())


def _tell(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
