"""JSONL and CSV: text tables that name images, or hold prompts."""

import gzip
import zlib
from collections.abc import Iterator, Sequence, Set
from itertools import islice

import pyarrow as pa

from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.core.storage_errors import explain, reject_of
from uniface_ray.data.fetching import fetch_rows
from uniface_ray.data.listing import DataFiles
from uniface_ray.data.slices import Slice, cannot_count, check_unchanged, rejected_rows
from uniface_ray.data.table_rows import as_text, table_row
from uniface_ray.data.text_records import Csv, Jsonl, Record, TextFormat, open_text
from uniface_ray.data.wanted import Wanted

_CHECKED = 100
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)


class TextSource:
    """See `slices.Source`. A row's position is its line's number in JSONL, and its record's in CSV (from the header).

    Both count from 0, and blank lines too, though these are no rows. Kept columns are text: what is no text in JSONL
    becomes JSON. Files that end in .gz are unpacked as they are read, each time from their start: split large ones.
    """

    reads_to_count = True

    def __init__(self, files: DataFiles, source: SourceConfig, decode: DecodeConfig, wanted: Wanted) -> None:
        self.format = files.format
        self.address = files.address
        self.passed_over = files.passed_over
        self._files = files
        self._source = source
        self.wanted = wanted
        self._max_bytes = decode.max_bytes

    def check(self) -> None:
        self._files.check()
        names, noun = self._first_names()
        images = [("source.uri_column", self._source.uri_column)] if self.wanted.image else []
        for setting, name in [*images, *self.wanted.columns(self._source)]:
            if name not in names:
                raise UserError(
                    f"{setting} names {name!r}, which no {noun} has among the first {_CHECKED}; "
                    f"they have: {', '.join(names) or 'nothing that can be read'}. Set it to the one that is meant"
                )

    def kept(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._source.keep_columns])

    def files(self) -> Iterator[FileEntry]:
        return self._files.entries()

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        start, offset, count = 0, 0, 0
        blanks: list[int] = []
        try:
            for record in self._records(file.name):
                if not count:
                    start, offset = record.number, record.offset
                blanks += range(start + count + len(blanks), record.number)
                count += 1
                if count == rows:
                    yield Slice(file.name, start, count, offset, file.size, blanks=tuple(blanks))
                    start, offset, count, blanks = record.number + 1, record.end, 0, []
        except (FileNotFoundError, *_DAMAGED):
            count += 1  # gone since it was listed, or cut short: one row, which `read` will reject
        except OSError as error:
            raise cannot_count(self._files.uri(file.name), error) from error
        if count:
            yield Slice(file.name, start, count, offset, file.size, blanks=tuple(blanks))

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        rows = (row for piece in slices for row in self._rows(piece))
        return fetch_rows(rows, self._files.folder.storage, self._max_bytes, self.wanted.image, only)

    def _rows(self, piece: Slice) -> Iterator[Row]:
        position, done = piece.start, 0
        uri = self._files.uri(piece.path)
        try:
            for record in islice(self._records(piece.path, piece), piece.count):
                yield self._row(piece.path, record)
                position, done = record.number + 1, done + 1
            error = RejectError(RejectKind.NOT_FOUND, f"{uri} has no {self._format_of(uri).noun} {position + 1}")
        except RejectError as known:
            error = known
        except _DAMAGED as cause:
            error = RejectError(RejectKind.UNSUPPORTED_FORMAT, f"{uri} cannot be read as gzip: {cause}")
        except (OSError, ValueError) as cause:
            error = reject_of(cause, uri)
        yield from rejected_rows(piece, uri, piece.positions[done:], error)

    def _row(self, path: str, record: Record) -> Row:
        ref = RowRef(row_id_of(path, record.number), self._files.uri(path))
        where = f"{self._format_of(path).noun} {record.number + 1} of {ref.uri}"
        try:
            cells = record.cells()
        except RejectError as error:
            return Row(ref, reject=RejectError(error.kind, f"{where} {error.message}").at("read"))
        image = self._source.uri_column
        return table_row(ref, where, self._source, self.wanted, image, cells.get, self._max_bytes, as_text)

    def _first_names(self) -> tuple[list[str], str]:
        """The columns of the first file that has rows, and what the rows are called."""
        for file in self._files.entries():
            names: dict[str, None] = {}
            count = 0
            try:
                for record in islice(self._records(file.name), _CHECKED):
                    count += 1
                    try:
                        names.update(dict.fromkeys(record.cells()))
                    except RejectError:
                        continue  # a bad row is a reject of the run, not a mistake of the settings
            except (FileNotFoundError, *_DAMAGED):
                pass  # gone since it was listed, or damaged: that is for the run to tell
            except OSError as error:
                raise explain(error, "source.path", self._files.uri(file.name)) from error
            if count:
                return list(names), self._format_of(file.name).noun
        raise UserError(f"source.path is {self.address!r}, but no {self.format} file there has a row: correct the path")

    def _records(self, name: str, piece: Slice | None = None) -> Iterator[Record]:
        """The records that are not blank, from the start of the file or of the slice."""
        with self._files.folder.open_input(name) as handle:
            if piece:
                check_unchanged(piece, self._files.uri(name), handle.size())
            start = (piece.start, piece.offset) if piece else (0, 0)
            yield from self._format_of(name).records(open_text(handle, name), *start)

    def _format_of(self, name: str) -> TextFormat:
        if self.format == "jsonl":
            return Jsonl()
        return Csv("\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ",")
