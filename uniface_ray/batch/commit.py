"""Commit: a chunk's two parquet files under their fixed names, then its marker.

Two workers may be at the same chunk: Ray gives it to a second one when it has lost sight of the first, or a new run to
its own while a worker of the run before is not quite dead. What they have for its rows may differ. So the marker's name
is a register that changes by compare-and-swap, as every file does:

    nothing or open -> marker            where no files are there yet
    nothing or open -> open -> marker    else: to open it keeps all who came before from writing their marker

Files are looked at before the register is opened, and written only where they are as they were then. Whoever replaces a
file of another has opened the register before, so the other's marker comes too late: a marker names files that are
there, as it says. A worker that came too late removes what it wrote beside them, and `strays` what it could not.
"""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.batch.chunk import Answered
from uniface_ray.batch.layout import OK, REJECTED, marker_name, part_name
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.fenced import Fenced

_ATTEMPT = "uniface_ray.attempt"
_TRIES = 8
_WAIT_S = 0.05  # longest, before the second try; doubled for each further one


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


def marker_of(text: bytes) -> Marker | None:
    """A marker's file; None where the chunk is open: somebody is at it, or died at it."""
    return None if "open" in json.loads(text) else Marker.from_json(text)


@dataclass(frozen=True, slots=True)
class _Register:
    """The marker's file as it was at `version`; `before` is the marker that a replay has opened again."""

    version: str | None
    done: Marker | None = None
    before: Marker | None = None

    @classmethod
    def read(cls, sink: Fenced, chunk: int) -> "_Register":
        version = sink.version(marker_name(chunk))
        if version is None:
            return cls(None)
        with suppress(FileNotFoundError):
            text = sink.read(marker_name(chunk))
            done = marker_of(text)
            before = None if done else json.loads(text)["before"]
            return cls(version, done, Marker.from_json(json.dumps(before)) if before else None)
        return cls(None)

    def opened(self, sink: Fenced, chunk: int) -> str | None:
        """Open the chunk for this call alone: the register's new version, or None where another was quicker."""
        before = self.done or self.before
        content: dict[str, Any] = {"chunk": chunk, "open": uuid4().hex, "attempt": sink.token}
        content["before"] = asdict(before) if before else None
        return sink.replace(marker_name(chunk), json.dumps(content).encode(), self.version)


def commit(sink: Fenced, chunk: Answered, planned: int) -> tuple[Marker, bool]:
    """Write a chunk's files and its marker. A chunk that has its marker already stays as it is.

    Args:
        sink: of the run.
        chunk: its output rows.
        planned: rows that the plan has for it.

    Returns:
        The marker that the sink holds now, and whether it is of this call.

    Raises:
        UniFaceError: rows came out that did not go in, or the other way round; nothing is written then.
        SinkInUseError: another run has taken the sink; of this chunk, it has to do again what was not done.
        OSError: the sink cannot be written.
    """
    return settle(sink, chunk.number, planned, lambda done: True, lambda _: chunk)


def settle(
    sink: Fenced,
    number: int,
    planned: int,
    is_settled: Callable[[Marker], bool],
    make: Callable[[Marker | None], Answered],
) -> tuple[Marker, bool]:
    """`commit`, of what is made of what is there.

    Args:
        sink: of the run.
        number: of the chunk.
        planned: rows that the plan has for it.
        is_settled: whether the marker that the chunk has stays.
        make: the marker that the chunk has or had -> its rows. Called again where another worker came between.
    """
    mine: dict[str, str] = {}
    for tries in range(_TRIES):
        if tries:
            time.sleep(random.uniform(0, _WAIT_S * 2**tries))
        register = _Register.read(sink, number)
        if register.done and is_settled(register.done):
            _withdraw(sink, mine, register.done)
            return register.done, False
        names = (part_name(OK, number), part_name(REJECTED, number))
        there = {name: version for name in names if (version := sink.version(name))}
        chunk = make(register.done or register.before)
        worked = _worked(chunk, planned)
        version = register.version
        if there:
            version = register.opened(sink, number)
            if version is None:
                continue
        files = _put(sink, dict(zip(names, (chunk.ok, chunk.rejected), strict=True)), there, mine)
        if files is None:
            continue
        marker = Marker(
            chunk=number,
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
        if sink.replace(marker_name(number), marker.to_json().encode(), version):
            return marker, True
    raise OSError(f"chunk {number} of {sink.uri} is written by other workers too, {_TRIES} times in a row")


def attempt_of(table: pa.Table) -> int | None:
    """Token of the run that wrote this output file; None where it does not say."""
    said = (table.schema.metadata or {}).get(_ATTEMPT.encode())
    return int(said) if said else None


def _worked(chunk: Answered, planned: int) -> int:
    """Rows of the plan that have a result, none among them."""
    parents = chunk.ok["parent_id"].fill_null(-1)
    worked = len(parents.filter(pa.compute.equal(parents, -1))) + len(set(parents.to_pylist()) - {-1})
    worked += chunk.amounts.get("faceless", 0)
    if worked + chunk.rejected.num_rows != planned:
        raise UniFaceError(
            f"chunk {chunk.number} has {planned} rows in the plan, but {worked} ok and {chunk.rejected.num_rows} "
            "rejected rows came out: nothing of it was written"
        )
    return worked


def _put(
    sink: Fenced, tables: dict[str, pa.Table], there: dict[str, str], mine: dict[str, str]
) -> list[OutputFile] | None:
    """Write the tables that have rows, and remove the file of one that has none; `mine` gets what was written.

    None where a file is no longer as it was in `there`.
    """
    files = []
    for name, table in tables.items():
        if not table.num_rows:
            if name in there and not sink.remove(name, there[name]):
                return None
            continue
        # The attempt in each file makes its bytes this run's own, so that a bucket tells them from an earlier run's.
        table = table.replace_schema_metadata({_ATTEMPT: str(sink.token)})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue().to_pybytes()
        version = sink.replace(name, data, there.get(name))
        if version is None:
            return None
        mine[name] = version
        files.append(OutputFile(name, len(data), hashlib.sha256(data).hexdigest()))
    return files


def _withdraw(sink: Fenced, mine: dict[str, str], done: Marker) -> None:
    """Remove what this call wrote where the marker names no file."""
    for name in mine.keys() - {file.name for file in done.files}:
        sink.remove(name, mine[name])
