"""Sources of every kind with the same number of rows, some of them bad, and the ids that their rows must have."""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.storage import Folder

_FILES = 4  # of a table
_BAD_EVERY = 37


def write(folder: Folder, kind: str, rows: int) -> None:
    """Put a source of this kind into a folder."""
    for _ in map_ahead(lambda file: folder.write(*file), _files(folder, kind, rows), threads=16, ahead=64):
        pass


def words(kind: str, folder: Folder) -> list[str]:
    """Command and settings that read it."""
    path = f"source.path={folder.uri}"
    match kind.partition("."):
        case "prompts", _, _:
            return ["generate", path, "source.prompt_column=prompt"]
        case "uris", _, _:
            return ["caption", path, "source.keep_columns=[number]", "source.format=jsonl"]
        case _:
            return ["caption", path]


def ids(kind: str, rows: int) -> list[int]:
    """What README says of row ids, written down once more: 63 bits of a hash of path and position."""
    if kind == "images":
        return [_id(f"{number % 7}/{number:05d}.jpg", 0) for number in range(rows)]
    ending = kind.partition(".")[2]
    return [_id(f"{part}.{ending}", position) for part in range(_FILES) for position in range(_count(part, rows))]


def _id(path: str, position: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{path}\0{position}".encode(), digest_size=8).digest(), "big") >> 1


def _count(part: int, rows: int) -> int:
    return (part + 1) * rows // _FILES - part * rows // _FILES


def _files(folder: Folder, kind: str, rows: int) -> Iterator[tuple[str, bytes]]:
    if kind in ("images", "uris.jsonl"):  # the second names what lies beside it
        prefix = "" if kind == "images" else "pictures/"
        for number in range(rows):
            yield f"{prefix}{number % 7}/{number:05d}.jpg", _picture(number)
    if kind == "images":
        return
    content, _, ending = kind.partition(".")
    start = 0
    for part in range(_FILES):
        numbers = range(start, start + _count(part, rows))
        start = numbers.stop
        yield f"{part}.{ending}", _table(content, ending, numbers)


def _table(content: str, ending: str, numbers: range) -> bytes:
    buffer = io.BytesIO()
    prompts = [None if number % _BAD_EVERY == 5 else f"portrait of person {number}" for number in numbers]
    if content == "prompts" and ending == "parquet":
        pq.write_table(pa.table({"prompt": prompts}), buffer, row_group_size=50)
    elif ending == "parquet":
        pq.write_table(pa.table({"image": [_picture(number) for number in numbers]}), buffer, row_group_size=50)
    elif ending == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([["prompt"], *([prompt or " "] for prompt in prompts)])
        buffer.write(text.getvalue().encode())
    elif ending == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number in numbers:
                info = tarfile.TarInfo(f"{number:05d}.jpg")
                info.size = len(_picture(number))
                tar.addfile(info, io.BytesIO(_picture(number)))
    elif content == "uris":
        uris = [f"pictures/{number % 7}/{number:05d}{'.gone' * (number % 41 == 3)}.jpg" for number in numbers]
        lines = [json.dumps({"uri": uri, "number": number}) for uri, number in zip(uris, numbers, strict=True)]
        buffer.write("\n".join(lines).encode())
    else:
        buffer.write("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts).encode())
    return buffer.getvalue()


def _picture(number: int) -> bytes:
    if number % _BAD_EVERY == 5:
        return b"no picture"
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, 128)).save(buffer, "JPEG")
    return buffer.getvalue()
