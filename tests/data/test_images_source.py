from pathlib import Path

from tests.data.rows import PICTURES, kinds_of, plan, rows_of, source_of
from tests.s3_server import S3Server
from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.slices import Slice
from uniface_ray.data.sources import open_source


def test_a_folder_of_images(place: Folder) -> None:
    names = ["a b/1=2 #x.jpg", "b/ü 日本%20.JPEG", "c.png", "d/e/f.webp", "z.TIFF"]
    for name, data in zip(names, PICTURES, strict=True):
        place.write(name, data)
    for ignored in ("readme.txt", ".hidden.jpg", ".cache/x.jpg", "d/.tmp/y.png", "jpg"):
        place.write(ignored, b"x")
    source = source_of(place)
    assert source.format == "images"
    size = len(PICTURES[0])
    assert plan(source)[0] == Slice(names[0], start=0, count=1, size=size, bytes=size)
    rows = rows_of(source)
    assert [row.data for row in rows] == PICTURES
    assert [row.ref.uri for row in rows] == [join(place.uri, name) for name in names]
    assert [row.ref.row_id for row in rows] == [row_id_of(name, 0) for name in names]
    assert all(row.kept == {} for row in rows)


def test_one_image_of_any_name(place: Folder) -> None:
    place.write("folder/odd name", PICTURES[0])
    place.write("folder/odd name 2.jpg", PICTURES[1])
    (row,) = rows_of(source_of(place, "folder/odd name", format="images"))
    assert row.data == PICTURES[0]
    assert row.ref.row_id == row_id_of("odd name", 0)
    (row,) = rows_of(source_of(place, "folder/odd name 2.jpg"))
    assert row.data == PICTURES[1]


def test_more_images_than_are_fetched_at_once_come_in_order(tmp_path: Path) -> None:
    for i in range(150):
        (tmp_path / f"{i:03}.jpg").write_bytes(str(i).encode())
    rows = rows_of(source_of(Folder(str(tmp_path), StorageConfig())))
    assert [row.data for row in rows] == [str(i).encode() for i in range(150)]


def test_images_that_are_too_large_or_gone(place: Folder) -> None:
    for name, size in (("a.jpg", 100), ("b.jpg", 101), ("c.jpg", 5)):
        place.write(name, bytes(size))
    source = source_of(place, max_bytes=100)
    pieces = plan(source)
    place.delete("c.jpg")
    rows = list(source.read(pieces))
    assert kinds_of(rows) == [None, RejectKind.TOO_LARGE, RejectKind.NOT_FOUND]
    assert rows[1].reject is not None
    assert rows[1].reject.message.endswith("b.jpg has 101 bytes, but decode.max_bytes allows 100")


def test_an_image_is_as_large_as_it_is_now(place: Folder) -> None:
    place.write("a.jpg", bytes(101))
    source = source_of(place, max_bytes=100)
    pieces = plan(source)
    place.write("a.jpg", bytes(50))
    assert kinds_of(list(source.read(pieces))) == [None]


def test_the_portraits_of_the_package(portraits: list[bytes]) -> None:
    source = open_source(SourceConfig(path="package://assets/portraits"), StorageConfig(), DecodeConfig())
    assert [row.data for row in rows_of(source)] == portraits


def test_storage_that_fails_while_reading(s3: S3Server) -> None:
    place = Folder(f"s3://{s3.bucket()}", s3.storage)
    place.write("a.jpg", PICTURES[0])
    pieces = plan(source_of(place))
    wrong = Folder(place.uri, s3.storage.model_copy(update={"secret_key": "wrong", "attempts": 1}))
    source = source_of(place)
    source._files.folder = wrong  # type: ignore[attr-defined]  # the keys expire between plan and read
    (row,) = source.read(pieces)
    assert kinds_of([row]) == [RejectKind.FETCH_FAILED]
    assert row.reject is not None
    assert "ACCESS_DENIED" in row.reject.message
