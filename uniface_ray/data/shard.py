"""A share of a source's files, for runs that are too large for one."""

from collections.abc import Iterator, Sequence, Set

import pyarrow as pa

from uniface_ray.core.records import Row, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.data.slices import Slice, Source


class Shard:
    """See `slices.Source`: the files of the k-th of n shares, by a hash of their names.

    Every file is in one share, whatever else is in the source, and its rows have the ids that they have without shares.
    A share of few files may have none.
    """

    def __init__(self, source: Source, shard: str) -> None:
        self._share, self._shares = (int(part) for part in shard.split("/"))
        self._source = source
        self.format = source.format
        self.address = source.address
        self.reads_to_count = source.reads_to_count
        self.wanted = source.wanted
        self.passed_over = source.passed_over

    def check(self) -> None:
        self._source.check()

    def kept(self) -> pa.Schema:
        return self._source.kept()

    def files(self) -> Iterator[FileEntry]:
        return (file for file in self._source.files() if row_id_of(file.name, 0) % self._shares == self._share - 1)

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        return self._source.slices(file, rows, max_bytes)

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        return self._source.read(slices, only)
