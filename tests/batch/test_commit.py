"""A chunk's way from rows to files, without Ray."""

import hashlib
import io
import json
from collections import Counter
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uniface_ray.batch.chunk import Chunk, pack_answers, pack_rows, unpack_answers, unpack_rows
from uniface_ray.batch.commit import Marker, commit
from uniface_ray.batch.layout import OK, REJECTED, marker_name, part_name
from uniface_ray.batch.strays import sweep
from uniface_ray.core.errors import SinkInUseError, UniFaceError
from uniface_ray.core.fenced import Fenced, lease_name
from uniface_ray.core.records import Reject, RejectKind, Row, RowRef
from uniface_ray.core.storage import Folder
from uniface_ray.core.task_config import CaptionConfig
from uniface_ray.tasks.answer import Answer
from uniface_ray.tasks.caption import Caption

KEPT = pa.schema([("age", pa.int32()), ("tags", pa.list_(pa.string()))])
TASK = Caption(CaptionConfig())
FIELDS = pa.schema([("question", pa.list_(pa.string()))])
GONE = Reject(RejectKind.NOT_FOUND, "no such file: ü", "read", attempts=2)


@pytest.fixture
def rows() -> list[Row]:
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    return [
        Row(RowRef(5, "/a b.jpg"), data=b"jpeg", fields={"question": ["q", "r"]}, kept={"age": 3, "tags": ["x"]}),
        Row(RowRef(2**63 - 1, "s3://b/ü"), pixels=pixels[0], kept={"age": None, "tags": None}),
        Row(RowRef(7, "c"), kept={}, reject=GONE),
        Row(RowRef(8, "d"), pixels=pixels[1], kept={"age": 9, "tags": []}),
    ]


def test_rows_arrive_as_they_left(rows: list[Row]) -> None:
    sent = Chunk(42, rows, {"read": 0.25})
    got = unpack_rows(pack_rows(sent, KEPT, FIELDS), image_size=4)
    assert (got.number, got.seconds) == (42, {"read": 0.25})
    assert [row.ref for row in got.rows] == [row.ref for row in rows]
    assert [row.reject for row in got.rows] == [row.reject for row in rows]
    assert got.rows[0].data == b"jpeg"
    assert got.rows[0].fields == {"question": ["q", "r"]}
    assert got.rows[0].kept == {"age": 3, "tags": ["x"]}
    for row, original in zip(got.rows, rows, strict=True):
        assert (row.pixels is None) == (original.pixels is None)
        if row.pixels is not None and original.pixels is not None:
            assert np.array_equal(row.pixels, original.pixels)


def answered(rows: list[Row]) -> bytes:
    answers = [Answer(row, 11, [] if row.reject else [{"caption": f"of {row.ref.uri}"}], row.reject) for row in rows]
    return pack_answers(Chunk(3, rows, {"engine": 1.5}), answers, TASK, "tiny", KEPT)


@pytest.fixture
def sink(place: Folder) -> Fenced:
    return Fenced(place.uri, place.storage, token=2)


def of_run(sink: Fenced, token: int) -> Fenced:
    return Fenced(sink.uri, sink.storage, token)


def test_a_commit_writes_both_outputs_and_then_the_marker(rows: list[Row], sink: Fenced) -> None:
    marker, _ = commit(sink, unpack_answers(answered(rows), TASK), planned=4)
    ok = pq.read_table(io.BytesIO(sink.read(part_name(OK, 3)))).to_pylist()
    rejected = pq.read_table(io.BytesIO(sink.read(part_name(REJECTED, 3)))).to_pylist()
    assert ok[1] == {
        "row_id": 2**63 - 1,
        "parent_id": None,
        "uri": "s3://b/ü",
        "task": "caption",
        "model": "tiny",
        "seed": 11,
        "caption": "of s3://b/ü",
        "age": None,
        "tags": None,
    }
    assert [row["age"] for row in ok] == [3, None, 9]
    assert rejected == [
        {
            "row_id": 7,
            "parent_id": None,
            "uri": "c",
            "task": "caption",
            "model": "tiny",
            "seed": 11,
            "error_kind": "not_found",
            "error_message": "no such file: ü",
            "stage": "read",
            "attempts": 2,
            "age": None,
            "tags": None,
        }
    ]
    assert Marker.from_json(sink.read(marker_name(3))) == marker
    assert (marker.input, marker.ok, marker.rejected, marker.rows_out) == (4, 3, 1, 3)
    assert marker.rejects_by_kind == {"not_found": 1}
    assert [file.name for file in marker.files] == [part_name(OK, 3), part_name(REJECTED, 3)]
    assert all(file.bytes == len(sink.read(file.name)) for file in marker.files)


class Killed(BaseException):
    """Stands for a process that is gone at this point."""


@pytest.mark.parametrize("writes", range(4))
def test_killed_between_any_two_writes_and_done_again_with_another_outcome(
    rows: list[Row], sink: Fenced, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Before the ok file, after it, after the rejected file, after the marker: each row ends up in one file, once."""
    first, left = of_run(sink, 1), writes

    def killed_later(name: str, data: bytes, version: str | None) -> str | None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return Fenced.replace(first, name, data, version)

    monkeypatch.setattr(first, "replace", killed_later)
    with suppress(Killed):
        commit(first, unpack_answers(answered(rows), TASK), planned=4)
    assert sink.exists(marker_name(3)) == (writes == 3), "the marker comes last"

    for row in rows:
        row.reject = GONE
    marker, _ = commit(sink, unpack_answers(answered(rows), TASK), planned=4)
    assert marker == Marker.from_json(sink.read(marker_name(3)))
    assert marker.attempt == (1 if writes == 3 else 2), "a chunk that is done is not done again"
    kept = [entry.name for entry in sink.list("data", recursive=True)]
    assert kept == [file.name for file in marker.files]
    assert all(hashlib.sha256(sink.read(file.name)).hexdigest() == file.sha256 for file in marker.files)
    assert Counter(row["row_id"] for name in kept for row in table_of(sink, name)) == Counter(
        row.ref.row_id for row in rows
    )


def table_of(sink: Folder, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(sink.read(name))).to_pylist()
    return rows


@pytest.mark.parametrize("write", range(3))
def test_a_worker_of_the_run_before_can_come_at_any_moment(
    rows: list[Row], sink: Fenced, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """Another run takes the sink before this worker's n-th write and does the chunk: its rows stay as they are."""
    late, count, check = of_run(sink, 1), 0, Fenced.check
    won: list[Marker] = []

    def check_after_takeover() -> None:
        nonlocal count
        if count == write:
            sink.write(lease_name(2), b"{}")
            won.append(commit(sink, unpack_answers(answered(rows), TASK), planned=4)[0])
        count += 1
        check(late)

    monkeypatch.setattr(late, "check", check_after_takeover)
    monkeypatch.setattr(late, "locked", lambda *_, **__: nullcontext())
    with pytest.raises(SinkInUseError):
        commit(late, unpack_answers(answered(rows), TASK), planned=4)
    assert won == [Marker.from_json(sink.read(marker_name(3)))]
    assert won[0].attempt == 2
    assert all(hashlib.sha256(sink.read(file.name)).hexdigest() == file.sha256 for file in won[0].files)
    assert [entry.name for entry in sink.list("data", recursive=True)] == [file.name for file in won[0].files]


def test_a_chunk_that_lost_a_row_is_not_committed(rows: list[Row], sink: Fenced) -> None:
    with pytest.raises(UniFaceError, match="5 rows in the plan, but 3 ok and 1 rejected"):
        commit(sink, unpack_answers(answered(rows), TASK), planned=5)
    assert not sink.exists(marker_name(3))
    assert not sink.exists(part_name(OK, 3))


def test_a_marker_says_what_a_person_would_look_for(rows: list[Row], sink: Fenced) -> None:
    commit(sink, unpack_answers(answered(rows), TASK), planned=4)
    document = json.loads(sink.read(marker_name(3)))
    assert document["chunk"] == 3
    assert document["seconds"] == {"engine": 1.5}
    assert set(document["files"][0]) == {"name", "bytes", "sha256"}


def test_what_no_marker_names_is_swept(rows: list[Row], sink: Fenced) -> None:
    """In a bucket, a worker of an earlier run may still make a file where this one's chunk has none."""
    for row in rows:
        row.reject = None
    marker, _ = commit(sink, unpack_answers(answered(rows), TASK), planned=4)
    Folder.write(sink, part_name(REJECTED, 3), b"late")
    Folder.write(sink, part_name(OK, 4), b"of a chunk that is not done")
    Folder.write(sink, "data/status=ok/notes.txt", b"somebody's")
    assert sweep(sink, marker.files) == [part_name(REJECTED, 3)]
    assert [entry.name for entry in sink.list("data", recursive=True)] == [
        "data/status=ok/notes.txt",
        part_name(OK, 3),
        part_name(OK, 4),
    ]
