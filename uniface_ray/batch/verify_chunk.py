"""One committed chunk against its plan and its marker."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.layout import REJECTED, part_name
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder
from uniface_ray.data.slices import Slice

_COLUMNS = ("row_id", "parent_id", "uri", "task", "model", "seed")
_REJECT_COLUMNS = ("error_kind", "error_message", "stage", "attempts")
_IDS_TOLD = 3
# Columns of an image that is a file too, with `task.files=true`: the file's name, and what is in it.
IMAGE_FILE = ("file", "image")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong.

    Attributes:
        kind: a word for it.
        where: the file.
        message: what is there, and what should be.
    """

    kind: str
    where: str
    message: str


@dataclass(slots=True)
class Part:
    """An output file that is as its marker says.

    Attributes:
        name: of the file.
        schema: of its columns.
        table: the columns that are looked at.
    """

    name: str
    schema: pa.Schema
    table: pa.Table


def read_part(
    sink: Folder, marker: Marker, status: str, there: bool, more: Sequence[str] = ()
) -> Part | Problem | None:
    """The chunk's file of one status, which is there or not; None where there is none and none should be.

    `more` are columns to look at besides.
    """
    name = part_name(status, marker.chunk)
    told = next((file for file in marker.files if file.name == name), None)
    if told is None:
        return Problem("stray", name, "is not in its chunk's marker: a resumed run removes it") if there else None
    try:
        data = sink.read(name)
    except FileNotFoundError:
        return Problem("missing_file", name, f"its marker counts {told.bytes:,} bytes here, and there is no such file")
    if len(data) != told.bytes or hashlib.sha256(data).hexdigest() != told.sha256:
        return Problem(
            "checksum", name, f"has {len(data):,} bytes of another checksum than the {told.bytes:,} that were written"
        )
    wanted = (*_COLUMNS, *more, *(_REJECT_COLUMNS if status == REJECTED else ()))
    try:
        schema = pq.read_schema(pa.BufferReader(data))
        if lacking := [column for column in wanted if column not in schema.names]:
            return Problem("schema", name, f"has no column {', '.join(lacking)}")
        looked_at = ["row_id", "parent_id", "task", "model", *more, *(["error_kind"] if status == REJECTED else [])]
        return Part(name, schema, pq.read_table(pa.BufferReader(data), columns=looked_at))
    except (pa.ArrowException, OSError) as error:
        return Problem("unreadable", name, f"is no parquet file: {error}")


def check_images(sink: Folder, ok: Part) -> Iterator[Problem]:
    """What is wrong with the images that are files too, by the columns `file` and `image`."""
    for name, image in zip(ok.table["file"].to_pylist(), ok.table["image"].to_pylist(), strict=True):
        try:
            if sink.read(name) != image:
                yield Problem("checksum", name, f"is not the image that its row in {ok.name} has")
        except FileNotFoundError:
            yield Problem("missing_file", name, f"a row in {ok.name} names it, and there is no such file")


def check_rows(
    marker: Marker, slices: Sequence[Slice], ok: Part | None, rejected: Part | None, names: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong with a chunk's rows.

    Args:
        marker: of the chunk.
        slices: that the plan has for it.
        ok: its file of rows that worked.
        rejected: its file of the rest.
        names: what the columns `task` and `model` must say.
    """
    where = f"chunk {marker.chunk}"
    planned = sum(one.count for one in slices)
    kinds = Counter(rejected.table["error_kind"].to_pylist()) if rejected else Counter()
    alone, children = _keys(ok)
    refused, _ = _keys(rejected)
    for said, counted, what in (
        (marker.input, planned, "rows in the plan"),
        (marker.ok + marker.rejected, marker.input, "ok and rejected rows of its input"),
        (marker.rows_out, ok.table.num_rows if ok else 0, "rows in its ok file"),
        (marker.rejected, len(refused), "rows in its rejected file"),
        (marker.rejects_by_kind, dict(kinds), "rejects by kind in its rejected file"),
    ):
        if said != counted:
            yield Problem("count", where, f"the marker says {said}, and there are {counted} {what}")
    if unknown := set(kinds) - set(RejectKind):
        yield Problem("schema", where, f"has error_kind {', '.join(map(str, sorted(unknown, key=str)))}")
    for part in (ok, rejected):
        for column, value in names.items() if part else ():
            if part and (others := set(pc.unique(part.table[column]).to_pylist()) - {value}):
                yield Problem("identity", part.name, f"has {column}={others.pop()!r} in a run of {value!r}")
    seen = Counter(alone) + Counter(set(children)) + Counter(refused)
    written = Counter(ok.table["row_id"].to_pylist() if ok else ())
    if doubled := [row_id for row_id, times in [*seen.items(), *written.items()] if times > 1]:
        yield Problem("duplicate", where, f"{len(doubled):,} rows are there more than once: row_id {_some(doubled)}")
    rest = set(seen)
    missing = _missing(slices, set(seen), rest)
    # A parent may have no row out, and counts as ok; not where rows of the file itself are gone.
    whole = marker.rows_out == (ok.table.num_rows if ok else 0)
    if len(missing) > (marker.ok - len(alone) - len(set(children)) if whole else 0):
        yield Problem("lost", where, f"{len(missing):,} planned rows are nowhere: row_id {_some(missing)}")
    if rest:
        yield Problem("unplanned", where, f"{len(rest):,} rows are not of its plan: row_id {_some(sorted(rest))}")


def _missing(slices: Sequence[Slice], seen: set[int], rest: set[int]) -> list[int]:
    """Ids of the slices' rows that are not in `seen`; those that are, are taken out of `rest`."""
    missing: list[int] = []
    for one in slices:
        ids = [row_id_of(one.path, position) for position in one.positions]
        rest.difference_update(ids)
        missing += (row_id for row_id in ids if row_id not in seen)
    return missing


def _keys(part: Part | None) -> tuple[list[int], list[int]]:
    """Ids of rows that stand for themselves, and of the parents of the others."""
    if part is None:
        return [], []
    parents = part.table["parent_id"]
    return part.table["row_id"].filter(pc.is_null(parents)).to_pylist(), parents.drop_null().to_pylist()


def _some(ids: Sequence[int]) -> str:
    told = ", ".join(map(str, ids[:_IDS_TOLD]))
    return told + (", ..." if len(ids) > _IDS_TOLD else "")
