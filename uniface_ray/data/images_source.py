"""A folder of image files: one file, one row."""

from collections.abc import Iterator, Sequence, Set

import pyarrow as pa

from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.data.fetching import fetch_rows
from uniface_ray.data.listing import DataFiles
from uniface_ray.data.slices import Slice
from uniface_ray.data.wanted import Wanted


class ImagesSource:
    """See `slices.Source`."""

    format = "images"
    reads_to_count = False

    def __init__(self, files: DataFiles, source: SourceConfig, decode: DecodeConfig, wanted: Wanted) -> None:
        self.address = files.address
        self.passed_over = files.passed_over
        self._files = files
        self._source = source
        self.wanted = wanted
        self._max_bytes = decode.max_bytes

    def check(self) -> None:
        for setting, column in self.wanted.columns(self._source):
            raise UserError(
                f"{setting} names {column!r}, but source.path is {self.address!r}, whose image files have no columns: "
                "leave it out, or give a table (parquet, CSV, JSONL) with that column"
            )
        self._files.check()

    def kept(self) -> pa.Schema:
        return pa.schema([])

    def files(self) -> Iterator[FileEntry]:
        return self._files.entries()

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        yield Slice(file.name, start=0, count=1, size=file.size, bytes=file.size)

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        return fetch_rows(map(self._row, slices), self._files.folder.storage, self._max_bytes, only=only)

    def _row(self, piece: Slice) -> Row:
        return Row(RowRef(row_id_of(piece.path, 0), self._files.uri(piece.path)))
