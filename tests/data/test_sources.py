from pathlib import Path
from typing import Any

import pytest

from tests.data.rows import PICTURES, put_lines, put_parquet, source_of
from tests.s3_server import S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder


@pytest.mark.parametrize(
    ("path", "settings", "words"),
    [
        ("none", {}, "source.path is .*none', but there is nothing at .*none: correct the path"),
        ("text", {}, r"no file there ends in any of .*\.jsonl.*; it holds 1 other files such as 'a.txt'"),
        ("text/a.txt", {}, r"no file there ends in any of .*set source.format for a single file of another name"),
        ("text", {"format": "images"}, r"source.format is images, but no file there ends in \.jpg"),
        ("mixed", {}, r"several formats: images \(a.jpg\), jsonl \(b.jsonl\). Say which to read with source.format"),
        ("images", {"keep_columns": ("n",)}, "source.keep_columns names 'n', .* whose image files have no columns"),
        (
            "table",
            {},
            r"source.image_column is 'image' and source.uri_column is 'uri', but .*table/a.parquet has neither",
        ),
        ("table", {}, r"Its columns are: photo \(binary\), n \(int64\)"),
        (
            "table",
            {"image_column": "photo", "keep_columns": ("m",)},
            "source.keep_columns names 'm', but the col",
        ),
        ("broken", {}, "none of its files can be read as parquet"),
        (
            "mixed",
            {"format": "jsonl", "uri_column": "link"},
            "source.uri_column names 'link', which no line has.*: uri",
        ),
        ("mixed", {"format": "jsonl", "keep_columns": ("n",)}, "source.keep_columns names 'n'"),
        ("blank", {}, "no jsonl file there has a row"),
    ],
)
def test_mistakes_are_told(place: Folder, path: str, settings: dict[str, Any], words: str) -> None:
    place.write("text/a.txt", b"x")
    place.write("images/a.jpg", PICTURES[0])
    place.write("mixed/a.jpg", PICTURES[0])
    put_lines(place, "mixed/b.jsonl", [{"uri": "a.jpg"}])
    put_parquet(place, "table/a.parquet", {"photo": PICTURES, "n": list(range(5))})
    place.write("broken/a.parquet", b"x")
    place.write("blank/a.jsonl", b"\n\n")
    with pytest.raises(UserError, match=words):
        source_of(place, path, **settings)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is empty"):
        source_of(Folder(str(tmp_path), StorageConfig()))


def test_a_missing_bucket_and_an_empty_one(s3: S3Server) -> None:
    with pytest.raises(UserError, match="there is no bucket 'not-there'"):
        source_of(Folder("s3://not-there/faces", s3.storage))
    with pytest.raises(UserError, match="it is empty"):
        source_of(Folder(f"s3://{s3.bucket()}", s3.storage))
