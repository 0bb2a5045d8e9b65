"""A chunk between two Ray stages: one Arrow table in the Arrow IPC format.

A chunk travels as a single cell of a Ray Data row. Ray Data may split and merge blocks, but never a cell: so a chunk
stays whole from read to commit, whatever its bytes, and GPU stages may ask for `batch_size=1` of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from uniface_ray.core.records import Pixels, Reject, RejectKind, Row, RowRef, child_id_of
from uniface_ray.tasks.answer import Answer
from uniface_ray.tasks.base import Task

_REJECT = [
    ("error_kind", pa.string()),
    ("error_message", pa.string()),
    ("stage", pa.string()),
    ("attempts", pa.int32()),
]


@dataclass(slots=True)
class Chunk:
    """Rows that are read, answered and committed together.

    Attributes:
        number: of the chunk in the plan.
        rows: in the order of the plan.
        seconds: time that each stage took.
        amounts: of what went through it: `read_bytes`, `images`, `tokens`, `faceless` photos.
        faceless: ids of the photos in which no face was found: they are done, and have no row any more.
    """

    number: int
    rows: list[Row]
    seconds: dict[str, float] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    faceless: list[int] = field(default_factory=list)


def pack_rows(chunk: Chunk, kept: pa.Schema, fields: pa.Schema) -> bytes:
    """The chunk before it is answered: encoded bytes after `read`, pixels after `decode`."""
    rows = chunk.rows
    table = pa.table(
        {
            "row_id": pa.array([row.ref.row_id for row in rows], pa.int64()),
            "parent_id": pa.array([row.parent for row in rows], pa.int64()),
            "uri": pa.array([row.ref.uri for row in rows], pa.string()),
            "data": pa.array([row.data for row in rows], pa.large_binary()),
            "pixels": pa.array([_bytes(row.pixels) for row in rows], pa.large_binary()),
            "mask": pa.array([_bytes(row.mask) for row in rows], pa.large_binary()),
            **_struct("fields", [row.fields for row in rows], fields),
            **_struct("kept", [row.kept for row in rows], kept),
            **_reject_columns([row.reject for row in rows]),
        }
    )
    return _to_ipc(table, chunk)


def unpack_rows(payload: pa.Buffer | bytes, image_size: int) -> Chunk:
    """The chunk of `pack_rows`; pixels and masks are views into `payload`."""
    table, facts = _from_ipc(payload)
    small = table.drop_columns(["data", "pixels", "mask"]).to_pylist()
    rows = [
        Row(
            RowRef(values["row_id"], values["uri"]),
            parent=values["parent_id"],
            data=data.as_py(),
            pixels=_pixels(pixels, (3, image_size, image_size)),
            mask=_pixels(mask, (image_size, image_size)),
            fields=values.get("fields") or {},
            kept=values.get("kept") or {},
            reject=_reject(values),
        )
        for values, data, pixels, mask in zip(small, table["data"], table["pixels"], table["mask"], strict=True)
    ]
    return Chunk(rows=rows, **facts)


def pack_answers(chunk: Chunk, answers: Sequence[Answer], task: Task, model: str, kept: pa.Schema) -> bytes:
    """The chunk after it is answered: its output rows, and its rejects with a null in the task's columns."""
    outputs = [(answer, values) for answer in answers for values in answer.rows or ([{}] if answer.reject else [])]
    ids = [ids for answer in answers for ids in _ids(answer.row, len(answer.rows) or bool(answer.reject))]
    table = pa.table(
        {
            "row_id": pa.array([row_id for row_id, _ in ids], pa.int64()),
            "parent_id": pa.array([parent_id for _, parent_id in ids], pa.int64()),
            "uri": pa.array([answer.row.ref.uri for answer, _ in outputs], pa.string()),
            "task": pa.array([task.name] * len(outputs), pa.string()),
            "model": pa.array([model] * len(outputs), pa.string()),
            "seed": pa.array([values.get("seed", answer.seed) for answer, values in outputs], pa.int64()),
            **{column.name: pa.array([v.get(column.name) for _, v in outputs], column.type) for column in task.columns},
            **_struct("kept", [answer.row.kept for answer, _ in outputs], kept),
            **_reject_columns([answer.reject for answer, _ in outputs]),
        }
    )
    return _to_ipc(table, chunk)


@dataclass(frozen=True, slots=True)
class Answered:
    """A chunk ready to be written.

    Attributes:
        number: of the chunk.
        ok: rows that worked, with the columns of their output file.
        rejected: the rest, likewise.
        seconds: time that each stage took.
        amounts: see `Chunk`.
        faceless: likewise.
    """

    number: int
    ok: pa.Table
    rejected: pa.Table
    seconds: dict[str, float]
    amounts: dict[str, int]
    faceless: list[int] = field(default_factory=list)


def unpack_answers(payload: pa.Buffer | bytes, task: Task, kept_names: Mapping[str, str] | None = None) -> Answered:
    """The chunk of `pack_answers`, split into its two outputs; `kept_names` are what kept columns are called there."""
    table, facts = _from_ipc(payload)
    if "kept" in table.column_names:
        # As columns of their own in the outputs; a struct in between, so that no name can clash.
        kept = table["kept"].combine_chunks()
        table = table.drop_columns("kept")
        for index, column in enumerate(kept.type):
            name = (kept_names or {}).get(column.name, column.name)
            table = table.append_column(name, kept.field(index))
    is_reject = pc.is_valid(table["error_kind"])
    ok = table.filter(pc.invert(is_reject)).drop_columns([name for name, _ in _REJECT])
    rejected = table.filter(is_reject).drop_columns(task.columns.names)
    return Answered(ok=ok, rejected=rejected, **facts)


def _ids(row: Row, rows: int) -> list[tuple[int, int | None]]:
    """(row_id, parent_id) of the output rows of one row: its own where there is one, else those of its children.

    The parent is always the source's row, though a face of it may have several output rows.
    """
    if rows <= 1:
        return [(row.ref.row_id, row.parent)] * rows
    parent = row.ref.row_id if row.parent is None else row.parent
    return [(child_id_of(row.ref.row_id, index), parent) for index in range(rows)]


def _struct(name: str, values: Sequence[dict[str, Any]], schema: pa.Schema) -> dict[str, pa.Array]:
    return {name: pa.array(values, pa.struct(list(schema)))} if len(schema) else {}


def _bytes(pixels: Pixels | None) -> bytes | None:
    return None if pixels is None else pixels.tobytes()


def _reject_columns(rejects: Sequence[Reject | None]) -> dict[str, pa.Array]:
    values = [
        (None, None, None, None) if one is None else (one.kind.value, one.message, one.stage, one.attempts)
        for one in rejects
    ]
    return {name: pa.array([row[i] for row in values], dtype) for i, (name, dtype) in enumerate(_REJECT)}


def _reject(values: dict[str, Any]) -> Reject | None:
    if values["error_kind"] is None:
        return None
    return Reject(RejectKind(values["error_kind"]), values["error_message"], values["stage"], values["attempts"])


def _pixels(cell: pa.Scalar, shape: tuple[int, ...]) -> Pixels | None:
    return np.frombuffer(cell.as_buffer(), np.uint8).reshape(shape) if cell.is_valid else None


def _to_ipc(table: pa.Table, chunk: Chunk) -> bytes:
    facts = {
        "number": chunk.number,
        "seconds": chunk.seconds,
        "amounts": chunk.amounts,
        "faceless": chunk.faceless,
    }
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata({"chunk": json.dumps(facts)})) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_ipc(payload: pa.Buffer | bytes) -> tuple[pa.Table, dict[str, Any]]:
    """The table, and all that `Chunk` has beside its rows."""
    table = pa.ipc.open_stream(payload).read_all()
    return table.replace_schema_metadata(None), json.loads(table.schema.metadata[b"chunk"])
