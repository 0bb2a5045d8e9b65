import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows import PICTURES, kinds_of, plan, put_lines, rows_of, source_of
from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder
from uniface_ray.data.sources import open_source

BAD = RejectKind.BAD_REQUEST


@pytest.fixture
def table(tmp_path: Path) -> Folder:
    place = Folder(str(tmp_path), StorageConfig())
    for i, data in enumerate(PICTURES):
        place.write(f"{i}.jpg", data)
    return place


def test_csv_with_everything_that_quotes_can_hold(place: Folder) -> None:
    for i in range(4):
        place.write(f"p/{i}, ü.jpg", PICTURES[i])
    text = (
        "\ufeffname,uri,note\r\n"
        'a,"p/0, ü.jpg","two\r\nlines, and ""quotes"""\r\n'
        "\r\n"
        'b,"p/1, ü.jpg",5" wide\r\n'
        "c,only two\r\n"
        '"d","p/2, ü.jpg",\r\n'
        ",,\r\n"
        'f,none.jpg,"no line end after this"\r\n'
        'g,"p/3, ü.jpg",last'
    )
    place.write("t.csv", text.encode())
    for rows in (1, 2, 100):
        found = rows_of(source_of(place, "t.csv", keep_columns=("note", "name")), rows)
        assert kinds_of(found) == [None, None, BAD, None, BAD, RejectKind.NOT_FOUND, None]
        assert [row.data for row in found if row.data] == PICTURES[:4]
        assert [row.kept.get("note") for row in found[:4]] == ['two\r\nlines, and "quotes"', '5" wide', None, ""]
        assert [row.ref.row_id for row in found] == [row_id_of("t.csv", n) for n in (0, 2, 3, 4, 5, 6, 7)]
    assert found[2].reject is not None
    assert found[2].reject.message.endswith("t.csv has 2 values, but the header has 3")


def test_broken_records_cost_themselves(table: Folder) -> None:
    lines = [b"uri", b"0.jpg", b"bad\xff.jpg", b"1.jpg", b'"never closed', *[b"2.jpg"] * 3]
    table.write("t.csv", b"\n".join(lines))
    found = rows_of(source_of(table, "t.csv"))
    assert kinds_of(found) == [None, BAD, None, RejectKind.NOT_FOUND]
    # A quote that nothing closes takes what follows, up to the longest field that can be one.
    table.write("t.csv", b"\n".join([*lines, *[b"3.jpg"] * 30_000]))
    found = rows_of(source_of(table, "t.csv"), rows=1000)
    assert kinds_of(found[:5]) == [None, BAD, None, BAD, None]
    assert found[3].reject is not None
    assert "a quote that nothing closes?" in found[3].reject.message


def test_tabs_and_several_files_with_headers_of_their_own(table: Folder) -> None:
    table.write("a.tsv", b"uri\tn\n0.jpg\t1,5\n")
    table.write("b.csv", b"n,uri\n2,1.jpg\n")
    table.write("c.csv", b"other\n2\n")
    table.write("d.csv", b"")
    table.write("e.csv", b"uri,n\n")
    found = rows_of(source_of(table, format="csv", keep_columns=("n",)))
    assert [row.kept.get("n") for row in found] == ["1,5", "2", None]
    assert kinds_of(found) == [None, None, BAD]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_gzip(table: Folder, kind: str) -> None:  # the test's S3 server packs files of that name once more
    lines = [f'{{"uri": "{i % 5}.jpg"}}' if kind == "jsonl" else f"{i % 5}.jpg" for i in range(50)]
    text = "\n".join((["uri"] if kind == "csv" else []) + lines).encode()
    table.write(f"a.{kind}.gz", gzip.compress(text[:100]) + gzip.compress(text[100:]))  # in two members
    source = source_of(table, f"a.{kind}.gz")
    assert source.format == kind
    found = rows_of(source, rows=7)
    assert [row.data for row in found] == PICTURES * 10
    assert [row.ref.row_id for row in found] == [row_id_of(f"a.{kind}.gz", n) for n in range(50)]


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_gzip_that_is_damaged_keeps_what_comes_before(table: Folder, rows: int) -> None:
    lines = "\n".join(["uri,n", *(f"{i % 5}.jpg,{i * i}" for i in range(20_000))]).encode()
    whole = gzip.compress(lines)
    table.write("cut.csv.gz", whole[: len(whole) // 2])
    table.write("no.csv.gz", b"no gzip at all")
    pieces = plan(source_of(table, format="csv"), rows)
    last, no = pieces[-2:]
    assert last.path == "cut.csv.gz"
    found = list(source_of(table, format="csv").read([pieces[0], last, no]))
    broken = RejectKind.UNSUPPORTED_FORMAT
    assert kinds_of(found) == [None] * (rows + last.count - 1) + [broken, broken]


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("link,n\na,1\n", {}, r"source.uri_column names 'uri', which no row has .*; they have: link, n"),
        ("uri;n\na;1\n", {}, r"they have: uri;n"),
        ("uri\na\n", {"keep_columns": ("n",)}, r"source.keep_columns names 'n'.*they have: uri"),
        ("uri\n", {}, "no csv file there has a row"),
        ("", {}, "no csv file there has a row"),
    ],
)
def test_mistakes(table: Folder, text: str, settings: dict[str, object], words: str) -> None:
    table.write("t.csv", text.encode())
    with pytest.raises(UserError, match=words):
        source_of(table, "t.csv", **settings)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=12), st.integers(1, 5))
def test_any_values_come_back_in_slices_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str]], rows: int
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([("uri", "note"), *values])
    place = Folder(str(tmp_path_factory.mktemp("csv")), StorageConfig())
    place.write("a.csv", buffer.getvalue().encode())
    config = SourceConfig(path=place.uri, keep_columns=("note", "uri"))
    source = open_source(config, place.storage, DecodeConfig())
    pieces = plan(source, rows)
    assert all(piece.count == rows for piece in pieces[:-1])
    for piece in reversed(pieces):
        kept = [row.kept for row in source.read([piece])]
        assert kept == [{"uri": u, "note": n} for u, n in values[piece.start : piece.start + piece.count]]


def test_put_lines_is_not_csv(table: Folder) -> None:
    put_lines(table, "t.csv", [{"uri": "0.jpg"}])
    with pytest.raises(UserError, match="no csv file there has a row"):
        source_of(table, "t.csv")
