"""What the tests of all sources share."""

import io
import json
import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pictures import encoded, picture
from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.records import RejectKind, Row
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.slices import Slice, Source
from uniface_ray.data.sources import open_source
from uniface_ray.data.wanted import IMAGES

PICTURES = [encoded(picture(seed)) for seed in range(5)]


def source_of(place: Folder, path: str = "", **settings: Any) -> Source:
    """As a run has it: checked where it is opened, and sent to the workers."""
    decode = DecodeConfig(max_bytes=settings.pop("max_bytes", 10**6))
    wanted = settings.pop("wanted", IMAGES)
    source = open_source(SourceConfig(path=join(place.uri, path), **settings), place.storage, decode, wanted)
    source.check()
    return source


def plan(source: Source, rows: int = 3) -> list[Slice]:
    return [piece for file in source.files() for piece in source.slices(file, rows, 2**30)]


def rows_of(source: Source, rows: int = 3) -> list[Row]:
    pieces = plan(source, rows)
    found = list(pickle.loads(pickle.dumps(source)).read(pieces))
    assert len(found) == sum(piece.count for piece in pieces)
    assert len({row.ref.row_id for row in found}) == len(found)
    return found


def kinds_of(rows: list[Row]) -> list[RejectKind | None]:
    assert all((row.data is None) == (row.reject is not None) for row in rows)
    assert all(row.reject is None or (row.reject.stage == "read" and row.reject.message) for row in rows)
    return [row.reject.kind if row.reject else None for row in rows]


def put_parquet(place: Folder, name: str, columns: dict[str, Any], **options: Any) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    place.write(name, buffer.getvalue())


def put_lines(place: Folder, name: str, lines: list[Any]) -> None:
    place.write(name, "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode())
