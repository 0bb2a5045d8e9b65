import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows import PICTURES, kinds_of, plan, put_lines, rows_of, source_of
from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.sources import open_source


def test_lines_of_uris(place: Folder) -> None:
    for i in range(3):
        place.write(f"pictures/{i}.jpg", PICTURES[i])
    lines = [
        "\ufeff" + json.dumps({"uri": "../pictures/0.jpg", "n": 1}),
        "",
        {"uri": join(place.uri, "pictures/1.jpg"), "n": "two"},
        "   \r",
        "not JSON",
        [1],
        {"n": 3},
        {"uri": "", "n": 4},
        {"uri": 5},
        {"uri": "ftp://host/a.jpg"},
        '{"uri": "\\ud800.jpg"}',
        "[" * 100_000,
        {"uri": "gone.jpg"},
        json.dumps({"uri": "../pictures/2.jpg"}) + "\r",
        "",
    ]
    put_lines(place, "lists/a b.jsonl", lines)
    source = source_of(place, "lists/a b.jsonl", keep_columns=("n",))
    assert source.format == "jsonl"
    rows = rows_of(source)
    bad, gone = RejectKind.BAD_REQUEST, RejectKind.NOT_FOUND
    assert kinds_of(rows) == [None, None, bad, bad, bad, bad, bad, bad, bad, bad, gone, None]
    assert [row.data for row in rows if row.data] == PICTURES[:3]
    assert [row.kept.get("n") for row in rows[:6]] == ["1", "two", None, None, "3", "4"]
    assert rows[1].ref.row_id == row_id_of("a b.jsonl", 2)  # the line's number, blank lines counted
    assert rows[2].reject is not None
    assert rows[2].reject.message.startswith(f"line 5 of {join(place.uri, 'lists/a b.jsonl')} is not JSON")


def test_a_line_that_never_ends(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    (tmp_path / "a.jpg").write_bytes(PICTURES[0])
    put_lines(place, "a.jsonl", [{"uri": "a.jpg"}, "x" * (40 * 2**20), {"uri": "a.jpg"}])
    assert kinds_of(rows_of(source_of(place, "a.jsonl"), rows=1)) == [None, RejectKind.BAD_REQUEST, None]


def test_lines_that_change_or_go_after_the_plan(place: Folder) -> None:
    for name in ("a", "b"):
        put_lines(place, f"{name}.jsonl", [{"uri": "x.jpg"}, {"uri": "x.jpg"}])
    place.write("x.jpg", PICTURES[0])
    source = source_of(place, format="jsonl")
    pieces = plan(source, rows=1)
    put_lines(place, "a.jsonl", [{"uri": "x.jpg"}])
    place.delete("b.jsonl")
    changed, gone = RejectKind.NOT_FOUND, RejectKind.NOT_FOUND
    assert kinds_of(list(source.read(pieces))) == [changed, changed, gone, gone]


def test_lines_that_cannot_be_read_have_the_ids_they_have_when_they_can(place: Folder) -> None:
    place.write("x.jpg", PICTURES[0])
    line = {"uri": "x.jpg"}
    put_lines(place, "a.jsonl", ["", line, "", "", line, line, " ", line, line])
    source = source_of(place, format="jsonl")
    pieces = plan(source)
    ids = [row.ref.row_id for row in source.read(pieces)]
    place.delete("a.jsonl")
    rows = list(source.read(pieces))
    assert kinds_of(rows) == [RejectKind.NOT_FOUND] * 5
    assert [row.ref.row_id for row in rows] == ids


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.sampled_from(["", "  ", "x", '{"uri": "none.jpg"}', "ü" * 40]), min_size=1, max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    rows=st.integers(1, 9),
)
def test_slices_cover_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, last: bool, rows: int
) -> None:
    place = Folder(str(tmp_path_factory.mktemp("lines")), StorageConfig())
    place.write("a.jsonl", (end.join(lines) + (end if last else "")).encode())
    source = open_source(SourceConfig(path=place.uri), place.storage, DecodeConfig())
    pieces = plan(source, rows)
    assert all(piece.count == rows for piece in pieces[:-1])
    expected = [row_id_of("a.jsonl", number) for number, line in enumerate(lines) if line.strip()]
    assert [row.ref.row_id for row in source.read(pieces)] == expected
    assert [row.ref.row_id for piece in reversed(pieces) for row in reversed(list(source.read([piece])))] == [
        *reversed(expected)
    ]
    assert [row_id_of("a.jsonl", position) for piece in pieces for position in piece.positions] == expected
