"""The plan: the source, listed once, in numbered chunks of row references.

    plan/00000000.parquet   slices of 64 chunks, from chunk 0 on
    plan/00000064.parquet   ...
    plan/generation-0000.json   written last: these chunks are the plan of the source as it stood then

A later run lists the source again. Files that were not there before become new chunks, in a generation of their own;
the numbers of old chunks never change.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import lru_cache
from itertools import chain, groupby
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.batch.chunking import chunked, limited, rows_that_fit, slices_of
from uniface_ray.batch.layout import PLAN
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import row_id_of
from uniface_ray.core.storage import FileEntry, Folder
from uniface_ray.data.slices import Slice, Source

CHUNKS_PER_FILE = 64
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Generation:
    """What one listing added.

    Attributes:
        first_chunk: number of its first chunk.
        chunks: how many.
        rows: in them.
        files: of the source.
        sha256: of its plan files, one after the other.
    """

    first_chunk: int
    chunks: int
    rows: int
    files: int
    sha256: str

    @property
    def first_chunks(self) -> range:
        """Of each of its plan files."""
        return range(self.first_chunk, self.first_chunk + self.chunks, CHUNKS_PER_FILE)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look at the source found, against the plan: files added to it, gone from it, of another size than then.

    `changed_examples` has the names of some of the last, `passed_over` counts files that are no data, by ending.
    """

    added: int
    vanished: int
    changed: int
    changed_examples: Sequence[str] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


class Plan:
    """The chunks of a sink."""

    def __init__(self, sink: Folder, generations: Sequence[Generation]) -> None:
        self.sink = sink
        self.generations = list(generations)

    @classmethod
    def load(cls, sink: Folder, clean: bool = True) -> Self:
        """The complete generations in the sink; what a dead run left behind half written is removed.

        Args:
            sink: of the run.
            clean: false leaves everything as it is, for those who only look.
        """
        entries = [entry.name for entry in sink.list(PLAN)]
        markers = [name for name in entries if name.endswith(".json")]
        plan = cls(sink, [Generation(**json.loads(sink.read(name))) for name in markers])
        for name in entries if clean else ():
            if name.endswith(".parquet") and int(name.rpartition("/")[2].removesuffix(".parquet")) >= plan.chunks:
                sink.delete(name)
        return plan

    @property
    def chunks(self) -> int:
        """Number of chunks; they are numbered from 0."""
        return sum(generation.chunks for generation in self.generations)

    @property
    def rows(self) -> int:
        """Rows in all chunks."""
        return sum(generation.rows for generation in self.generations)

    @property
    def index(self) -> "PlanIndex":
        """To find chunks in it."""
        firsts = (first for generation in self.generations for first in generation.first_chunks)
        return PlanIndex(self.sink, firsts, self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is planned: another source gives another."""
        return hashlib.sha256("".join(generation.sha256 for generation in self.generations).encode()).hexdigest()

    def extend(self, source: Source, chunk_rows: int, limit: int | None) -> Listing:
        """List the source, and plan what is not planned yet.

        Args:
            source: to list.
            chunk_rows: most rows of a chunk.
            limit: most rows of the whole plan; None for all.
        """
        if limit is not None and self.rows >= limit:
            return Listing(0, 0, 0)
        room = None if limit is None else limit - self.rows
        known = _Known.of(self)
        writer = _Writer(self.sink, self.chunks)
        added = changed = present = 0
        examples: list[str] = []

        def new_files() -> Iterator[FileEntry]:
            nonlocal added, changed, present
            for file in source.files():
                size = known.size(file.name)
                if size is None:
                    added += 1
                    yield file
                else:
                    present += 1
                    if size != file.size:
                        changed += 1
                        if changed <= _EXAMPLES:
                            examples.append(file.name)

        files = new_files()
        if first := next(files, None):
            chunk_rows = rows_that_fit(source, first, chunk_rows)
        slices = slices_of(source, chain([first] if first else [], files), chunk_rows)
        for chunk in chunked(limited(slices, room), chunk_rows):
            writer.add(chunk)
        generation = writer.close(files=added)
        if generation.chunks:
            name = f"{PLAN}/generation-{len(self.generations):04d}.json"
            self.sink.write(name, json.dumps(asdict(generation)).encode())
            self.generations.append(generation)
        vanished = 0 if room is not None else len(known) - present
        return Listing(added, vanished, changed, examples, dict(source.passed_over))


class PlanIndex:
    """Finds a chunk in the plan files; small, it travels to workers.

    Args:
        sink: of the run.
        first_chunks: of each plan file, in order.
        fingerprint: of the plan, so that what a worker remembers of another plan at the same place does not count.
    """

    def __init__(self, sink: Folder, first_chunks: Iterable[int], fingerprint: str) -> None:
        self.sink = sink
        self.first_chunks = list(first_chunks)
        self.fingerprint = fingerprint

    def slices(self, chunk: int) -> list[Slice]:
        """What the chunk is made of."""
        return self._file(chunk)[chunk]

    def _file(self, chunk: int) -> dict[int, list[Slice]]:
        first_chunk = self.first_chunks[bisect_right(self.first_chunks, chunk) - 1]
        return _file_slices(self.sink.uri, self.sink.storage, first_chunk, self.fingerprint)

    def others(self, chunk: int) -> list[int]:
        """Some other chunks, from all parts of the plan."""
        near = {chunk - 1, chunk + 1} & self._file(chunk).keys()
        firsts = self.first_chunks
        return sorted(near | {firsts[0], firsts[len(firsts) // 2], firsts[-1]} - {chunk})

    def rows(self, chunk: int) -> int:
        """Rows of the chunk."""
        return sum(one.count for one in self.slices(chunk))


class _Known:
    """Files of a plan and their sizes, 16 bytes each: millions of paths as strings would not be small."""

    def __init__(self, hashes: np.ndarray, sizes: np.ndarray) -> None:
        self._hashes, index = np.unique(hashes, return_index=True)
        self._sizes = sizes[index]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        hashes, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for first_chunk in plan.index.first_chunks:
            file = pa.BufferReader(plan.sink.read(plan_file(first_chunk)))
            table = pq.read_table(file, columns=["path", "size"])
            hashes.append(np.array([row_id_of(path, 0) for path in table["path"].to_pylist()], np.int64))
            sizes.append(table["size"].to_numpy())
        return cls(np.concatenate(hashes), np.concatenate(sizes))

    def __len__(self) -> int:
        return len(self._hashes)

    def size(self, path: str) -> int | None:
        """Bytes of the file when it was planned; None where it was not."""
        hashed = row_id_of(path, 0)
        index = int(np.searchsorted(self._hashes, hashed))
        found = index < len(self._hashes) and self._hashes[index] == hashed
        return int(self._sizes[index]) if found else None


class _Writer:
    """Writes plan files of `CHUNKS_PER_FILE` chunks; holds one in memory."""

    def __init__(self, sink: Folder, first_chunk: int) -> None:
        self.sink = sink
        self.first_chunk = self.file_chunk = first_chunk
        self.rows = 0
        self.sha256 = hashlib.sha256()
        self.pending: list[list[Slice]] = []

    def add(self, chunk: list[Slice]) -> None:
        self.pending.append(chunk)
        self.rows += sum(one.count for one in chunk)
        if len(self.pending) == CHUNKS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        if not self.pending:
            return
        columns: dict[str, list[object]] = {name: [] for name in ("chunk", *(one.name for one in fields(Slice)))}
        for number, chunk in enumerate(self.pending, self.file_chunk):
            for one in chunk:
                for name, value in zip(columns, (number, *astuple(one)), strict=True):
                    columns[name].append(value)
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), buffer)
        data = buffer.getvalue().to_pybytes()
        self.sha256.update(data)
        self.sink.write(plan_file(self.file_chunk), data)
        self.file_chunk += len(self.pending)
        self.pending = []

    def close(self, files: int) -> Generation:
        self.flush()
        chunks = self.file_chunk - self.first_chunk
        return Generation(self.first_chunk, chunks, self.rows, files, self.sha256.hexdigest())


def plan_file(first_chunk: int) -> str:
    """Name of the plan file that begins with this chunk."""
    return f"{PLAN}/{first_chunk:08d}.parquet"


def chunks_of(data: bytes) -> dict[int, list[Slice]]:
    """The chunks of a plan file, by their numbers, in order."""
    groups = groupby(pq.read_table(pa.BufferReader(data)).to_pylist(), key=lambda row: row.pop("chunk"))
    return {chunk: [_slice_of(row) for row in group] for chunk, group in groups}


def _slice_of(row: dict[str, Any]) -> Slice:
    return Slice(**{**row, "blanks": tuple(row.get("blanks", ()))})


@lru_cache(maxsize=4)
def _file_slices(uri: str, storage: StorageConfig, first_chunk: int, fingerprint: str) -> dict[int, list[Slice]]:
    # Readers take chunks in order, so one plan file serves a worker for many of them.
    return chunks_of(Folder(uri, storage).read(plan_file(first_chunk)))
