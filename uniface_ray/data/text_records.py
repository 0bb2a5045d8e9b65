"""The records of a text table: lines of JSON, or rows of CSV; each with its place in the file."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple, Protocol

import pyarrow as pa

from uniface_ray.core.records import RejectError, RejectKind

# A longer line is no row of URIs but a file that is no table; it is passed over, not held.
_LONGEST_LINE = 16 * 2**20
_BUFFER_BYTES = 2**20


class Record(NamedTuple):
    """One record.

    Attributes:
        number: from 0, blank ones counted: a row's position.
        offset: bytes before it.
        end: bytes before what follows.
        cells: gives its values by name; raises a RejectError that tells why it has none.
    """

    number: int
    offset: int
    end: int
    cells: Callable[[], dict[str, Any]]


class TextFormat(Protocol):
    """How a text table is written.

    Attributes:
        noun: what its records are called in messages.
    """

    noun: str

    def records(self, stream: BinaryIO, number: int, offset: int) -> Iterator[Record]:
        """The records that are not blank, from the one of that number at that offset on (0, 0: from the first)."""
        ...


def open_text(handle: pa.NativeFile, name: str) -> BinaryIO:
    """What is in a file, unpacked if its name ends in .gz; seeking in such a file reads all that is before."""
    raw: Any = handle  # pyarrow's files are raw streams in all but their type
    # GzipFile has a buffer of its own; a larger one around it would lose what it gives before damage.
    stream: Any = gzip.GzipFile(fileobj=raw) if name.lower().endswith(".gz") else io.BufferedReader(raw, _BUFFER_BYTES)
    return stream


class Jsonl:
    """One JSON object a line."""

    noun = "line"

    def records(self, stream: BinaryIO, number: int, offset: int) -> Iterator[Record]:
        stream.seek(offset)
        while text := stream.readline(_LONGEST_LINE):
            length = len(text)
            ended = text.endswith(b"\n")
            while not ended and (rest := stream.readline(_LONGEST_LINE)):
                length += len(rest)
                ended = rest.endswith(b"\n")
            if text.strip():
                yield Record(number, offset, offset + length, partial(_parse_json, text))
            number, offset = number + 1, offset + length


def _parse_json(text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text.decode("utf-8-sig"))
        if b"\\u" in text:
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise RejectError(RejectKind.BAD_REQUEST, f"is not JSON: {error}") from error
    if not isinstance(record, dict):
        given = type(record).__name__
        raise RejectError(RejectKind.BAD_REQUEST, f"is a JSON {given}, but must be an object")
    return record


class Csv:
    """CSV with a header (RFC 4180; tabs where the name ends in .tsv). All values are text.

    Python's parser, not pyarrow's: it takes a line at a time, so a record's offset is known and one that is broken
    costs no other, whatever is quoted.
    """

    noun = "row"

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter

    def records(self, stream: BinaryIO, number: int, offset: int) -> Iterator[Record]:
        header, start = self._header(stream)
        offset = max(offset, start)
        stream.seek(offset)
        lines = _Lines(stream)
        reader = csv.reader(lines, delimiter=self.delimiter)
        while True:
            before = lines.taken
            try:
                values = next(reader, None)
                cells = partial(_named, header, values or [])
            except csv.Error as error:
                values, cells = [""], partial(_refused, str(error))
            if values is None:
                return
            if values:
                yield Record(number, offset + before, offset + lines.taken, cells)
            number += 1

    def _header(self, stream: BinaryIO) -> tuple[list[str], int]:
        stream.seek(0)
        lines = _Lines(stream)
        try:
            names = next(csv.reader(lines, delimiter=self.delimiter), [])
        except csv.Error:
            names = []
        return [name.removeprefix("\ufeff") for name in names], lines.taken


class _Lines:
    """Lines for a csv.reader, which takes as many as a record has; what is no UTF-8 stays visible in them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while text := self._stream.readline(_LONGEST_LINE):
            self.taken += len(text)
            yield text.decode("utf-8", "surrogateescape")


def _named(header: list[str], values: list[str]) -> dict[str, Any]:
    if len(values) != len(header):
        what = f"has {len(values)} values, but the header has {len(header)}"
        raise RejectError(RejectKind.BAD_REQUEST, what)
    try:
        "".join(values).encode()
    except UnicodeEncodeError as error:
        raise RejectError(RejectKind.BAD_REQUEST, "is not UTF-8") from error
    return dict(zip(header, values, strict=True))


def _refused(reason: str) -> dict[str, Any]:
    raise RejectError(RejectKind.BAD_REQUEST, f"is not CSV: {reason} (a quote that nothing closes?)")
