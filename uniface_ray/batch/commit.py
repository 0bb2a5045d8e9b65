"""Commit: a chunk's two parquet files under their fixed names, then its marker.

The order is what makes a run exactly-once: a chunk without a marker is done again over the same names, so whatever a
dead run left between the first file and the marker is replaced.
"""

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.batch.chunk import Answered
from uniface_ray.batch.layout import OK, REJECTED, marker_name, part_name
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.fenced import Fenced

_ATTEMPT = "uniface_ray.attempt"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of the output, as markers and the manifest name it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Marker:
    """`checkpoint/<chunk>.json`: the chunk is done.

    Attributes:
        chunk: its number.
        input: rows of the plan in it.
        ok: of them, those that worked.
        rejected: of them, the rest.
        rows_out: rows of the ok file.
        rejects_by_kind: rejected, by `error_kind`.
        files: the output files that have rows.
        seconds: time that each stage took.
        attempt: token of the run that did it (see `core.lease`).
        committed_at: ISO 8601.
        amounts: of what went through it: `read_bytes`, `images`, `tokens`, `faceless` photos.
    """

    chunk: int
    input: int
    ok: int
    rejected: int
    rows_out: int
    rejects_by_kind: dict[str, int]
    files: list[OutputFile]
    seconds: dict[str, float]
    attempt: int
    committed_at: str
    amounts: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Marker":
        values = json.loads(text)
        return cls(**{**values, "files": [OutputFile(**file) for file in values["files"]]})


def commit(sink: Fenced, chunk: Answered, planned: int) -> Marker:
    """Write a chunk's files and its marker.

    A chunk that has its marker already stays as it is: a worker of the run before may have got there at the last
    moment, or Ray may have given the chunk to a second worker when it had lost sight of the first.

    Args:
        sink: of the run.
        chunk: its output rows.
        planned: rows that the plan has for it.

    Returns:
        The marker that the sink holds now.

    Raises:
        UniFaceError: rows came out that did not go in, or the other way round; nothing is written then.
        SinkInUseError: another run has taken the sink; of this chunk, it has to do again what was not done.
    """
    with suppress(FileNotFoundError):
        return Marker.from_json(sink.read(marker_name(chunk.number)))
    parents = chunk.ok["parent_id"].fill_null(-1)
    worked = len(parents.filter(pa.compute.equal(parents, -1))) + len(set(parents.to_pylist()) - {-1})
    worked += chunk.amounts.get("faceless", 0)
    if worked + chunk.rejected.num_rows != planned:
        raise UniFaceError(
            f"chunk {chunk.number} has {planned} rows in the plan, but {worked} ok and {chunk.rejected.num_rows} "
            "rejected rows came out: nothing of it was written"
        )
    files = [
        file
        for folder, table in ((OK, chunk.ok), (REJECTED, chunk.rejected))
        if (file := _put(sink, part_name(folder, chunk.number), table))
    ]
    marker = Marker(
        chunk=chunk.number,
        input=planned,
        ok=worked,
        rejected=chunk.rejected.num_rows,
        rows_out=chunk.ok.num_rows,
        rejects_by_kind=dict(Counter(chunk.rejected["error_kind"].to_pylist())),
        files=files,
        seconds={stage: round(seconds, 4) for stage, seconds in chunk.seconds.items()},
        attempt=sink.token,
        committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        amounts=chunk.amounts,
    )
    text = marker.to_json().encode()
    if not sink.create(marker_name(chunk.number), text):
        # The run before was still writing its own when this one took over. The files are this one's by now.
        sink.write(marker_name(chunk.number), text)
    return marker


def attempt_of(table: pa.Table) -> int | None:
    """Token of the run that wrote this output file; None where it does not say."""
    said = (table.schema.metadata or {}).get(_ATTEMPT.encode())
    return int(said) if said else None


def _put(sink: Fenced, name: str, table: pa.Table) -> OutputFile | None:
    if not table.num_rows:
        # An earlier, unfinished try may have had rows here.
        sink.delete(name)
        return None
    # The attempt in each file makes its bytes this run's own, so that a bucket tells them from an earlier run's.
    table = table.replace_schema_metadata({_ATTEMPT: str(sink.token)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue().to_pybytes()
    sink.write(name, data)
    return OutputFile(name, len(data), hashlib.sha256(data).hexdigest())
