"""A source's files cut into slices, and slices put together to chunks."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.storage import FileEntry
from uniface_ray.data.slices import Slice, Source

# A chunk is one cell of a Ray block; well under Ray's 128 MiB blocks, several fit beside each other in a small store.
CHUNK_BYTES = 48 * 2**20
# Images, of so many places in a file, that are read to see how large those are that it names.
_SAMPLED = 16
# Files whose rows are counted at a time.
_THREADS = 16


def slices_of(source: Source, files: Iterable[FileEntry], rows: int) -> Iterator[Slice]:
    """The slices of files in their order. Where files are opened for it, several are at a time."""

    def slices(file: FileEntry) -> list[Slice]:
        return list(source.slices(file, rows, CHUNK_BYTES))

    counted = map_ahead(slices, files, _THREADS, _THREADS) if source.reads_to_count else map(slices, files)
    return chain.from_iterable(counted)


def rows_that_fit(source: Source, file: FileEntry, most: int) -> int:
    """`most` rows of a chunk, or fewer where the file names images of which that many are more than `CHUNK_BYTES`.

    Some of them are read to see how large they are: nothing in the file tells. Those that cannot be count for nothing.
    """
    if not source.wanted.image:
        return most
    slices = list(islice(source.slices(file, most, CHUNK_BYTES), _SAMPLED))
    if any(one.bytes for one in slices):
        return most  # slices of files that hold the images are cut by their bytes
    each = _SAMPLED // max(1, len(slices))
    rows = source.read([replace(one, count=min(one.count, each)) for one in slices])
    sizes = [len(row.data) for row in rows if row.data]
    return min(most, max(1, CHUNK_BYTES * len(sizes) // sum(sizes))) if sizes else most


def limited(slices: Iterator[Slice], rows: int | None) -> Iterator[Slice]:
    """Slices up to `rows` rows (1 or more) in all, the last one cut; no file more is opened than that takes."""
    for one in slices:
        if rows is None:
            yield one
            continue
        kept = min(one.count, rows)
        yield replace(one, count=kept)
        rows -= kept
        if not rows:
            return


def chunked(slices: Iterator[Slice], rows: int) -> Iterator[list[Slice]]:
    """Slices in chunks of at most `rows` rows and about `CHUNK_BYTES` bytes; a slice is never cut."""
    chunk: list[Slice] = []
    count = size = 0
    for one in slices:
        if chunk and (count + one.count > rows or size + one.bytes > CHUNK_BYTES):
            yield chunk
            chunk, count, size = [], 0, 0
        chunk.append(one)
        count += one.count
        size += one.bytes
    if chunk:
        yield chunk
