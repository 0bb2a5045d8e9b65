"""JSON lines: one object a line, which names an image."""

import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.core.storage_errors import explain, reject_of
from uniface_ray.data.fetching import fetch_rows
from uniface_ray.data.listing import DataFiles
from uniface_ray.data.slices import Slice, cannot_count, check_unchanged, rejected_rows
from uniface_ray.data.uris import resolve

# A longer line is no row of URIs but a file that is not JSON lines; it is passed over, not held.
_LONGEST_LINE = 16 * 2**20
_BUFFER_BYTES = 2**20
_CHECKED_LINES = 100


class _Line(NamedTuple):
    number: int  # from 0: a row's position
    offset: int
    text: bytes  # without the line end; cut at _LONGEST_LINE


class JsonlSource:
    """See `slices.Source`. A row's position is its line number, from 0; blank lines are not rows."""

    format = "jsonl"

    def __init__(self, files: DataFiles, source: SourceConfig, decode: DecodeConfig) -> None:
        self._files = files
        self._source = source
        self._max_bytes = decode.max_bytes

    def check(self) -> None:
        keys = self._first_keys()
        wanted = [("source.uri_column", self._source.uri_column)]
        wanted += [("source.keep_columns", name) for name in self._source.keep_columns]
        for setting, name in wanted:
            if name not in keys:
                raise UserError(
                    f"{setting} names {name!r}, which no line has among the first {_CHECKED_LINES}; "
                    f"they have: {', '.join(keys) or 'no JSON objects'}. Set it to the key that is meant"
                )

    def kept(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._source.keep_columns])

    def files(self) -> Iterator[FileEntry]:
        return iter(self._files.entries())

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        first, count = None, 0
        try:
            for line in self._lines(file.name):
                first = first or line
                count += 1
                if count == rows:
                    yield Slice(file.name, first.number, count, first.offset, file.size)
                    first, count = None, 0
        except FileNotFoundError:
            first, count = _Line(0, 0, b""), 1  # gone since it was listed: one row, which `read` will reject
        except OSError as error:
            raise cannot_count(self._files.uri(file.name), error) from error
        if first:
            yield Slice(file.name, first.number, count, first.offset, file.size)

    def read(self, slices: Sequence[Slice]) -> Iterator[Row]:
        rows = (row for piece in slices for row in self._rows(piece))
        return fetch_rows(rows, self._files.folder.storage, self._max_bytes)

    def _rows(self, piece: Slice) -> Iterator[Row]:
        position, done = piece.start, 0
        uri = self._files.uri(piece.path)
        try:
            for line in islice(self._lines(piece.path, piece), piece.count):
                yield self._row(piece.path, line)
                position, done = line.number + 1, done + 1
            error = RejectError(RejectKind.NOT_FOUND, f"{uri} has no line {position + 1}")
        except RejectError as known:
            error = known
        except (OSError, ValueError) as cause:
            error = reject_of(cause, uri)
        yield from rejected_rows(piece, uri, range(position, position + piece.count - done), error)

    def _row(self, path: str, line: _Line) -> Row:
        row = Row(RowRef(row_id_of(path, line.number), self._files.uri(path)))
        where = f"line {line.number + 1} of {row.ref.uri}"
        try:
            record = _parse(line.text, where)
            row.kept = {name: _as_text(record.get(name)) for name in self._source.keep_columns}
            uri = record.get(self._source.uri_column)
            if not isinstance(uri, str) or not uri:
                raise RejectError(
                    RejectKind.BAD_REQUEST,
                    f"{where} has {self._source.uri_column}={uri!r:.80}, but needs the URI of an image there",
                )
            row.ref = RowRef(row.ref.row_id, resolve(uri, row.ref.uri))
        except RejectError as error:
            row.reject = error.at("read")
        return row

    def _first_keys(self) -> list[str]:
        keys: dict[str, None] = {}
        for file in self._files.entries():
            try:
                lines = list(islice(self._lines(file.name), _CHECKED_LINES))
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError as error:
                raise explain(error, "source.path", self._files.uri(file.name)) from error
            for line in lines:
                try:
                    keys.update(dict.fromkeys(_parse(line.text, file.name)))
                except RejectError:
                    continue  # a bad line is a reject of the run, not a mistake of the settings
            if lines:
                return list(keys)
        raise UserError(
            f"source.path is {self._files.folder.uri!r}, but there is no line in its JSONL files: correct the path"
        )

    def _lines(self, name: str, piece: Slice | None = None) -> Iterator[_Line]:
        """The lines that are not blank, from the start of the file or of the slice."""
        with self._files.folder.open_input(name) as handle:
            number, offset = 0, 0
            if piece:
                check_unchanged(piece, self._files.uri(name), handle.size())
                number, offset = piece.start, piece.offset
                handle.seek(offset)
            reader = io.BufferedReader(_as_raw(handle), _BUFFER_BYTES)
            while text := reader.readline(_LONGEST_LINE):
                length = len(text)
                ended = text.endswith(b"\n")
                while not ended and (rest := reader.readline(_LONGEST_LINE)):
                    length += len(rest)
                    ended = rest.endswith(b"\n")
                if text.strip():
                    yield _Line(number, offset, text)
                number, offset = number + 1, offset + length


def _as_raw(handle: pa.NativeFile) -> Any:
    return handle  # pyarrow's files are raw streams in all but their type


def _as_text(value: Any) -> str | None:
    """Lines need not agree on types, columns must: text stays as it is, anything else becomes JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parse(text: bytes, where: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
        RejectError: no JSON, no object, or text that is no Unicode.
    """
    try:
        record = json.loads(text.decode("utf-8-sig"))
        if b"\\u" in text:
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise RejectError(RejectKind.BAD_REQUEST, f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict):
        given = type(record).__name__
        raise RejectError(RejectKind.BAD_REQUEST, f"{where} is a JSON {given}, but must be an object")
    return record
