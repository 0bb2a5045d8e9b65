"""Whether a finished sink has every row once: by the command that users have, and by counting without it."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.core.storage import Folder


@dataclass(frozen=True, slots=True)
class Counted:
    """What is in all parquet files of a sink's data folder, as a reader finds them who knows nothing of markers.

    Attributes:
        ok: rows that worked.
        rejected: the rest.
        lost: ids that should be there, and are not.
        doubled: rows that are there once more than they should.
        strange: ids that should not be there.
        kinds: of rejects.
    """

    ok: int
    rejected: int
    lost: int
    doubled: int
    strange: int
    kinds: dict[str, int]


def count(sink: Folder, expected: Sequence[int]) -> Counted:
    """Count the rows of a sink against their ids."""
    found: Counter[int] = Counter()
    rows: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for entry in sink.list("data", recursive=True):
        table = pq.read_table(pa.BufferReader(sink.read(entry.name)))
        found.update(table["row_id"].to_pylist())
        status = "ok" if "status=ok" in entry.name else "rejected"
        rows[status] += table.num_rows
        if status == "rejected":
            kinds.update(table["error_kind"].to_pylist())
    wanted = Counter(expected)
    return Counted(
        rows["ok"],
        rows["rejected"],
        lost=(wanted - found).total(),
        doubled=sum(times - 1 for times in found.values()),
        strange=len(found.keys() - wanted.keys()),
        kinds=dict(kinds),
    )


def verify(words: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and answer of `uniface verify`."""
    done = subprocess.run(
        [sys.executable, "-m", "uniface_ray.cli", "verify", *words], env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr
