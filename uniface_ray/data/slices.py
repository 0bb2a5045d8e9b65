"""What every source gives: files, slices of them, and rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from uniface_ray.core.errors import StoppedError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.data.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of rows of one file. It is small whatever the rows hold: a plan stores it instead of them.

    Attributes:
        path: of the file, relative to `source.path`; the file's own name where that is a single file.
        start: position in the file of the first row, from 0: a row of parquet, a line of JSONL, a record of CSV
            (after the header), a sample of a tar; 0 for an image file.
        count: rows.
        offset: bytes before the first row, in JSONL, CSV (of a gzip file: of what it holds) and tars; else 0.
        size: bytes of the file when it was listed, to notice a change.
        bytes: of these rows' images, about; 0 where they are files of their own that the table only names.
        blanks: positions between the first row and the last that are no rows, as blank lines of JSONL.
    """

    path: str
    start: int
    count: int
    offset: int = 0
    size: int = 0
    bytes: int = 0
    blanks: tuple[int, ...] = ()

    @property
    def positions(self) -> list[int]:
        """Of the rows, in order; known without the file."""
        if not self.blanks:
            return list(range(self.start, self.start + self.count))
        blanks = set(self.blanks)
        between = range(self.start, self.start + self.count + len(blanks))
        return [position for position in between if position not in blanks][: self.count]


class Source(Protocol):
    """Where rows come from. It pickles small: the listing stays behind.

    Attributes:
        format: as `source.format`, and never `auto`.
        address: the file or folder that is read (of a pattern, the folder above it); empty for a name on the hub.
        reads_to_count: `slices` opens the file, so several at a time pay.
        wanted: what its rows have, by the task.
    """

    format: str
    address: str
    reads_to_count: bool
    wanted: Wanted

    @property
    def passed_over(self) -> Mapping[str, int]:
        """How many files, by ending, the last `files` found that are no data files of this format."""
        ...

    def check(self) -> None:
        """Look at the source's listing and first file.

        Raises:
            UserError: nothing there, no rights, no data files, a column that is missing.
        """
        ...

    def kept(self) -> pa.Schema:
        """Types of `source.keep_columns`, in their order."""
        ...

    def files(self) -> Iterator[FileEntry]:
        """Each data file once, in an order that the rows' ids do not depend on.

        Raises:
            StoppedError: the storage failed half-way.
        """
        ...

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        """A file's rows in order, in runs of at most `rows` that hold about `max_bytes` or less.

        A file that is gone or that makes no sense counts as one row, which `read` rejects with the reason.

        Raises:
            StoppedError: the storage failed.
        """
        ...

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        """The slices' rows in order. A row that cannot be read comes with a reject; nothing is raised.

        Args:
            slices: of the plan, or parts of such.
            only: ids of the rows that are wanted: no others are given, nor fetched; None for all.
        """
        ...


def cannot_count(uri: str, error: Exception) -> StoppedError:
    """The storage failed while a file's rows were counted: nothing is known to be wrong with the file."""
    return StoppedError(f"cannot count the rows of {uri} ({error}): the same command goes on once the storage answers")


def check_unchanged(piece: Slice, uri: str, size: int) -> None:
    """Raise the RejectError of rows whose file is no longer the one that was planned."""
    if size != piece.size:
        raise RejectError(
            RejectKind.NOT_FOUND,
            f"{uri} has changed since it was listed ({piece.size:,} bytes then, {size:,} now): its rows may be others. "
            "Under another name it is a new file, and all its rows are done",
        )


def rejected_rows(piece: Slice, uri: str, positions: Iterable[int], error: RejectError) -> Iterator[Row]:
    """A row for each position that could not be read, all for the same reason."""
    for position in positions:
        yield Row(RowRef(row_id_of(piece.path, position), uri), reject=error.at("read"))
