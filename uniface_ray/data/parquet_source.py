"""Parquet files with a column of encoded images, or of their URIs, or of text alone."""

from collections.abc import Iterator, Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.core.storage_errors import explain, is_storage_failure, reject_of
from uniface_ray.data.columns import columns_to_read
from uniface_ray.data.fetching import fetch_rows
from uniface_ray.data.listing import DataFiles
from uniface_ray.data.slices import Slice, cannot_count, check_unchanged, rejected_rows
from uniface_ray.data.table_rows import table_row
from uniface_ray.data.wanted import Wanted

# Rows decoded at a time and bytes read at a time: a row group may be larger than memory.
_BATCH_ROWS = 16
_BUFFER_BYTES = 4 * 2**20
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError)


class ParquetSource:
    """See `slices.Source`.

    Rows start anywhere in a row group, and what stands before them in it is read over: files whose row groups
    hold about `run.chunk_rows` rows read fastest. Memory holds a page or two of a column at a time.
    """

    format = "parquet"
    reads_to_count = True

    def __init__(self, files: DataFiles, source: SourceConfig, decode: DecodeConfig, wanted: Wanted) -> None:
        self.address = files.address
        self.passed_over = files.passed_over
        self._files = files
        self._source = source
        self.wanted = wanted
        self._max_bytes = decode.max_bytes

    def check(self) -> None:
        self._files.check()
        self._columns(*self._first_schema())

    def kept(self) -> pa.Schema:
        schema, _ = self._first_schema()
        return pa.schema([schema.field(name) for name in self._source.keep_columns])

    def files(self) -> Iterator[FileEntry]:
        return self._files.entries()

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        total, row_bytes = 1, 0.0
        try:
            with self._files.folder.open_input(file.name) as handle:
                metadata = pq.read_metadata(handle)
                total = metadata.num_rows
                row_bytes = self._bytes_of_images(metadata) / max(1, total)
        except FileNotFoundError:
            pass
        except _ERRORS as error:
            if is_storage_failure(error):
                raise cannot_count(self._files.uri(file.name), error) from error
        rows = min(rows, max(1, int(max_bytes / max(1.0, row_bytes))))
        for start in range(0, total, rows):
            count = min(rows, total - start)
            yield Slice(file.name, start, count, size=file.size, bytes=int(count * row_bytes))

    def _bytes_of_images(self, metadata: pq.FileMetaData) -> int:
        """Bytes of the image column in a whole file; of a struct's all fields."""
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        columns = [group.column(column) for group in groups for column in range(group.num_columns)]
        wanted = self._source.image_column
        return sum(one.total_uncompressed_size for one in columns if one.path_in_schema.split(".")[0] == wanted)

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        rows = (row for piece in slices for row in self._rows(piece))
        return fetch_rows(rows, self._files.folder.storage, self._max_bytes, self.wanted.image, only)

    def _rows(self, piece: Slice) -> Iterator[Row]:
        position = piece.start
        uri = self._files.uri(piece.path)
        try:
            for record in self._records(piece):
                yield self._row(piece.path, position, record)
                position += 1
            error = RejectError(RejectKind.NOT_FOUND, f"{uri} has no row {position}")
        except RejectError as known:
            error = known
        except UserError as cause:  # this file's columns are others than those of the file that was checked
            error = RejectError(RejectKind.BAD_REQUEST, str(cause))
        except _ERRORS as cause:
            error = RejectError(RejectKind.UNSUPPORTED_FORMAT, f"{uri} cannot be read as parquet: {cause}")
            if is_storage_failure(cause):
                error = reject_of(cause, uri)
        yield from rejected_rows(piece, uri, range(position, piece.start + piece.count), error)

    def _records(self, piece: Slice) -> Iterator[dict[str, Any]]:
        """The slice's rows as {column: pyarrow scalar}, the images' column first where images are wanted."""
        with self._files.folder.open_input(piece.path) as handle:
            check_unchanged(piece, self._files.uri(piece.path), handle.size())
            file = pq.ParquetFile(handle, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            columns = self._columns(file.schema_arrow, self._files.uri(piece.path))
            groups, skip = _groups_of(file.metadata, piece)
            left = piece.count
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns):
                wanted = batch.slice(skip, left)
                skip = max(0, skip - len(batch))
                left -= len(wanted)
                for i in range(len(wanted)):
                    yield {name: wanted.column(name)[i] for name in columns}
                if not left:
                    return

    def _row(self, path: str, position: int, record: dict[str, Any]) -> Row:
        ref = RowRef(row_id_of(path, position), self._files.uri(path))
        where = f"row {position} of {ref.uri}"
        image = next(iter(record))
        return table_row(
            ref, where, self._source, self.wanted, image, lambda name: record[name].as_py(), self._max_bytes
        )

    def _first_schema(self) -> tuple[pa.Schema, str]:
        """The columns of the first file that can be read, and its address."""
        for file in self._files.entries():
            uri = self._files.uri(file.name)
            try:
                with self._files.folder.open_input(file.name) as handle:
                    return pq.read_schema(handle), uri
            except _ERRORS as error:
                if is_storage_failure(error) and not isinstance(error, FileNotFoundError):
                    raise explain(error, "source.path", uri) from error
                continue  # one bad file is a reject of the run, not a mistake of the settings
        raise UserError(
            f"source.path is {self._files.folder.uri!r}, but none of its files can be read as parquet "
            f"(the last is {uri}): mend them, or correct the path"
        )

    def _columns(self, schema: pa.Schema, uri: str) -> list[str]:
        return columns_to_read(schema, uri, self._source, self.wanted)


def _groups_of(metadata: pq.FileMetaData, piece: Slice) -> tuple[list[int], int]:
    """The row groups that a slice touches, and how many rows of the first to pass over."""
    groups: list[int] = []
    skip = first = 0
    for group in range(metadata.num_row_groups):
        end = first + metadata.row_group(group).num_rows
        if first < piece.start + piece.count and end > piece.start:
            if not groups:
                skip = piece.start - first
            groups.append(group)
        first = end
    return groups, skip
