import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows import PICTURES, kinds_of, plan, rows_of, source_of
from tests.s3_server import S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.webdataset_source import WebDatasetSource

BAD, BROKEN = RejectKind.BAD_REQUEST, RejectKind.UNSUPPORTED_FORMAT


def tar_of(files: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def pictures(count: int, size: int = 0) -> list[tuple[str, bytes]]:
    return [(f"{i:05}.jpg", PICTURES[i % 5] + bytes(size)) for i in range(count)]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_samples_with_sidecars(place: Folder, rows: int, format: int) -> None:
    long = "d/" * 80 + "ü"
    files = [
        ("a/1.JPG", PICTURES[0]),
        ("a/1.json", json.dumps({"age": 30, "name": "Ada"}).encode()),
        ("a/1.txt", b"a caption"),
        ("b/1.txt", b"ein Bild"),  # the same name in another folder is another sample
        ("b/1.seg.png", PICTURES[3]),
        ("b/1.jpg", PICTURES[1]),
        ("c.txt", b"no image"),
        (f"{long}.webp", PICTURES[2]),
        (f"{long}.txt", b"\xff\xfe"),
        ("e.jpg", PICTURES[4]),
        ("e.json", b"{broken"),
    ]
    place.write("t/x.tar", tar_of(files, format))
    source = source_of(place, "t", keep_columns=("txt", "age", "name", "__key__"))
    assert source.format == "webdataset"
    found = rows_of(source, rows)
    assert kinds_of(found) == [None, None, BAD, BAD, None]
    assert [row.data for row in found if row.data] == [PICTURES[0], PICTURES[1], PICTURES[4]]
    assert found[0].kept == {"txt": "a caption", "age": "30", "name": "Ada", "__key__": "a/1"}
    assert found[1].kept == {"txt": "ein Bild", "age": None, "name": None, "__key__": "b/1"}
    assert [row.ref.row_id for row in found] == [row_id_of("x.tar", i) for i in range(5)]
    assert found[0].ref.uri == join(place.uri, "t/x.tar")
    assert found[2].reject is not None
    assert found[2].reject.message.endswith("x.tar has no image, but txt")
    masks = rows_of(source_of(place, "t", image_column="seg.png"), rows)
    assert masks[1].data == PICTURES[3]


def test_too_large_in_a_tar(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    place.write("a.tar", tar_of([("1.jpg", bytes(50)), ("2.jpg", bytes(101)), ("3.jpg", bytes(7))]))
    found = rows_of(source_of(place, max_bytes=100))
    assert kinds_of(found) == [None, RejectKind.TOO_LARGE, None]


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("cut", ["in a picture", "in a header", "between"])
def test_a_tar_cut_short_keeps_what_comes_before(place: Folder, rows: int, cut: str) -> None:
    whole = tar_of(pictures(10))
    block = len(whole[: whole.index(b"00001.jpg")])
    end = {"in a picture": 6 * block + 700, "in a header": 6 * block + 100, "between": 6 * block}[cut]
    place.write("a.tar", whole[:end])
    place.write("b.tar", tar_of(pictures(2)))
    found = rows_of(source_of(place), rows)
    lost = [] if cut == "between" else [BROKEN]  # whole as far as it goes: tars are joined without their ends, too
    assert kinds_of(found) == [None] * 6 + lost + [None, None]
    if lost:
        assert found[6].reject is not None
        words = "is cut short: 00006.jpg should reach byte" if cut == "in a picture" else "at byte"
        assert words in found[6].reject.message


def test_tars_that_are_none(place: Folder) -> None:
    whole = bytearray(tar_of(pictures(4)))
    second = whole.index(b"00002.jpg")
    whole[second : second + 512] = b"\xff" * 512
    for name, data in (("a", b""), ("b", b"no tar " * 300), ("c", bytes(whole)), ("d", tar_of(pictures(1)))):
        place.write(f"{name}.tar", data)
    found = rows_of(source_of(place))
    assert kinds_of(found) == [BROKEN, BROKEN, None, None, BROKEN, None]
    assert all(row.reject is None or row.ref.uri in row.reject.message for row in found)


def test_a_slice_is_read_without_the_rest_of_the_tar(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Folder(f"s3://{s3.bucket()}", s3.storage)
    place.write("a.tar", tar_of(pictures(40, size=200_000)))
    source = source_of(place)
    pieces = plan(source, 2)
    reads: list[int] = []

    class Counting:
        def __init__(self, handle: Any) -> None:
            self._handle = handle

        def __getattr__(self, name: str) -> object:
            return getattr(self._handle, name)

        def readinto(self, buffer: bytearray) -> int:
            reads.append(len(buffer))
            return self._handle.readinto(buffer)

    opened = Folder.open_input
    monkeypatch.setattr(Folder, "open_input", lambda folder, name: _enter(Counting(opened(folder, name))))
    (row, _) = source.read([pieces[15]])
    assert row.data == PICTURES[0] + bytes(200_000)
    size = place.size("a.tar")
    assert size is not None
    assert sum(reads) <= 2**20 * 2 < size / 3


def _enter(handle: object) -> object:
    from contextlib import nullcontext

    return nullcontext(handle)


def test_keep_columns_that_are_not_there(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    place.write("a.tar", tar_of([("1.jpg", PICTURES[0]), ("1.json", b'{"age": 1}')]))
    words = r"names 'txt', which no sample has among the first 100: they have __key__, jpg, json, age\."
    with pytest.raises(UserError, match=words):
        source_of(place, keep_columns=("txt",))


def test_a_tar_that_changes_or_goes_after_the_plan(place: Folder) -> None:
    for name in ("a", "b", "c"):
        place.write(f"{name}.tar", tar_of(pictures(2)))
    source = source_of(place)
    pieces = plan(source)
    place.write("b.tar", tar_of(pictures(9)))
    place.delete("c.tar")
    gone = RejectKind.NOT_FOUND
    assert kinds_of(list(source.read(pieces))) == [None, None, gone, gone, gone, gone]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_rows_or_rejects(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(tar_of([*pictures(3), ("x.txt", b"1")]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    place = Folder(str(tmp_path_factory.mktemp("tar")), StorageConfig())
    place.write("a.tar", bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    source = source_of(place)
    assert isinstance(source, WebDatasetSource)
    everything = list(source.read(plan(source, 100)))
    in_pieces = [row for piece in plan(source, 1) for row in source.read([piece])]
    assert [row.data for row in in_pieces] == [row.data for row in everything]
    assert all((row.data is None) == (row.reject is not None) for row in everything)
