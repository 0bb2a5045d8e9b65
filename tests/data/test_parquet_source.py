from pathlib import Path

import pyarrow as pa
import pytest

from tests.data.rows import PICTURES, kinds_of, plan, put_parquet, rows_of, source_of
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.slices import Slice


@pytest.mark.parametrize("group", [5, 100])  # rows of a row group: smaller and larger than what is read at a time
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_parquet_of_images_in_slices_of_any_size(place: Folder, rows: int, group: int) -> None:
    for part in range(2):
        count = 37 + part
        columns = {"n": list(range(count)), "image": [f"{part}-{i}".encode() for i in range(count)]}
        put_parquet(place, f"deep/part-{part}.parquet", columns, row_group_size=group)
    source = source_of(place, keep_columns=("n",))
    assert source.format == "parquet"
    assert all(piece.count <= rows for piece in plan(source, rows))
    found = rows_of(source, rows)
    assert [row.data for row in found] == [f"{p}-{i}".encode() for p in range(2) for i in range(37 + p)]
    assert [row.kept for row in found] == [{"n": i} for p in range(2) for i in range(37 + p)]
    assert found[40].ref.uri == join(place.uri, "deep/part-1.parquet")
    assert found[40].ref.row_id == row_id_of("deep/part-1.parquet", 3)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_kinds_of_binary(tmp_path: Path, kind: pa.DataType) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    put_parquet(place, "a.parquet", {"photo": pa.array(PICTURES, kind)})
    assert [row.data for row in rows_of(source_of(place, "a.parquet", image_column="photo"))] == PICTURES


def test_parquet_as_hugging_face_writes_it(place: Folder) -> None:
    place.write("pictures/1.jpg", PICTURES[1])
    cells = [
        {"bytes": PICTURES[0], "path": "0.jpg"},
        {"bytes": None, "path": "../pictures/1.jpg"},
        {"bytes": None, "path": None},
        None,
    ]
    put_parquet(place, "data/train.parquet", {"image": cells})
    rows = rows_of(source_of(place, "data"))
    assert kinds_of(rows) == [None, None, RejectKind.BAD_REQUEST, RejectKind.BAD_REQUEST]
    assert [row.data for row in rows[:2]] == PICTURES[:2]
    assert rows[1].ref.uri == join(place.uri, "pictures/1.jpg")


def test_parquet_of_uris(place: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where.jpg"
    elsewhere.write_bytes(PICTURES[2])
    for i in range(2):
        place.write(f"pictures/{i} ü.jpg", PICTURES[i])
    uris = ["../pictures/0 ü.jpg", join(place.uri, "pictures/1 ü.jpg"), str(elsewhere), elsewhere.as_uri()]
    bad = ["none.jpg", "/dev/zero", "ftp://host/a.jpg", "", None, "a\0b"]
    put_parquet(place, "tables/t.parquet", {"link": uris + bad, "n": list(range(10))})
    rows = rows_of(source_of(place, "tables/t.parquet", uri_column="link", keep_columns=("n", "link")))
    missing, wrong = RejectKind.NOT_FOUND, RejectKind.BAD_REQUEST
    assert kinds_of(rows)[:9] == [None] * 4 + [missing, missing, wrong, wrong, wrong]
    assert rows[9].reject is not None
    assert [row.data for row in rows[:4]] == [PICTURES[0], PICTURES[1], PICTURES[2], PICTURES[2]]
    assert [row.kept for row in rows] == [{"n": i, "link": uri} for i, uri in enumerate(uris + bad)]
    assert rows[0].ref.uri == join(place.uri, "pictures/0 ü.jpg")


def test_a_bad_value_costs_its_own_row_only(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    bad_text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")]
    )
    put_parquet(place, "a.parquet", {"image": PICTURES[:3], "text": bad_text})
    rows = list(
        source_of(place, keep_columns=("text",)).read([Slice("a.parquet", 0, 3, size=place.size("a.parquet") or 0)])
    )
    assert [row.reject and row.reject.kind for row in rows] == [None, RejectKind.BAD_REQUEST, None]


def test_parquet_files_that_cannot_be_read(place: Folder) -> None:
    put_parquet(place, "0-good.parquet", {"image": PICTURES})
    whole = place.read("0-good.parquet")
    place.write("1-cut.parquet", whole[:-10])
    place.write("2-text.parquet", b"no parquet")
    put_parquet(place, "3-other.parquet", {"picture": PICTURES[:2]})
    place.write("4-empty.parquet", b"")
    damaged = bytearray(whole)
    damaged[4:100] = b"\xff" * 96  # the first page; the footer still says five rows
    place.write("5-damaged.parquet", bytes(damaged))
    rows = rows_of(source_of(place))
    broken, columns = RejectKind.UNSUPPORTED_FORMAT, RejectKind.BAD_REQUEST
    assert kinds_of(rows) == [None] * 5 + [broken, broken, columns, columns, broken] + [broken] * 5


def test_parquet_that_changes_or_goes_after_the_plan(place: Folder) -> None:
    for name in ("a", "b", "c"):
        put_parquet(place, f"{name}.parquet", {"image": PICTURES[:2]})
    source = source_of(place)
    pieces = plan(source)
    put_parquet(place, "b.parquet", {"image": PICTURES[:4]})
    place.delete("c.parquet")
    rows = list(source.read(pieces))
    changed, gone = RejectKind.NOT_FOUND, RejectKind.NOT_FOUND
    assert kinds_of(rows) == [None, None, changed, changed, gone, gone]
    assert rows[2].reject is not None
    assert "has changed since it was listed" in rows[2].reject.message


def test_a_parquet_file_gone_before_its_rows_are_counted_is_one_reject(place: Folder) -> None:
    for name in ("a", "b"):
        put_parquet(place, f"{name}.parquet", {"image": PICTURES[:2]})
    source = source_of(place)
    files = list(source.files())
    place.delete("b.parquet")
    pieces = [piece for file in files for piece in source.slices(file, 3, 2**30)]
    assert kinds_of(list(source.read(pieces))) == [None, None, RejectKind.NOT_FOUND]
