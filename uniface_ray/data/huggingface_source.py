"""Datasets of Hugging Face: a folder that `save_to_disk` made, or whatever `load_dataset` loads."""

import os
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from typing import Any

import pyarrow as pa

from uniface_ray.core.config import HUB, DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry, absolute
from uniface_ray.data.columns import columns_to_read
from uniface_ray.data.fetching import fetch_rows
from uniface_ray.data.slices import Slice, rejected_rows
from uniface_ray.data.table_rows import table_row
from uniface_ray.data.wanted import Wanted

_BATCH_ROWS = 16


class HuggingFaceSource:
    """See `slices.Source`. A row's position is its index in the split; its id is made of that and the split's name.

    The library maps the dataset's Arrow shards into memory, so rows are read where they are. A dataset of the hub is
    in its cache, which every node fills for itself.
    """

    format = "huggingface"
    reads_to_count = False

    def __init__(self, source: SourceConfig, storage: StorageConfig, decode: DecodeConfig, wanted: Wanted) -> None:
        self.address = absolute(source.path) if os.path.exists(source.path) else ""
        self.passed_over: dict[str, int] = {}
        self._source = source
        self._storage = storage
        self.wanted = wanted
        self._max_bytes = decode.max_bytes

    def check(self) -> None:
        self._columns()

    def kept(self) -> pa.Schema:
        schema = self._dataset.features.arrow_schema
        return pa.schema([schema.field(name) for name in self._source.keep_columns])

    def files(self) -> Iterator[FileEntry]:
        yield FileEntry(self._source.split, len(self._dataset), 0.0)

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        # What images weigh, the library does not say: the mean of all columns is never less.
        row_bytes = self._dataset.data.nbytes / max(1, file.size)
        rows = min(rows, max(1, int(max_bytes / max(1.0, row_bytes))))
        for start in range(0, file.size, rows):
            count = min(rows, file.size - start)
            yield Slice(file.name, start, count, size=file.size, bytes=int(count * row_bytes))

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        rows = (row for piece in slices for row in self._rows(piece))
        return fetch_rows(rows, self._storage, self._max_bytes, self.wanted.image, only)

    def _rows(self, piece: Slice) -> Iterator[Row]:
        position = piece.start
        try:
            if len(self._dataset) != piece.size:
                what = f"{self._uri} had {piece.size:,} rows when it was listed, and has {len(self._dataset):,} now"
                raise RejectError(RejectKind.NOT_FOUND, f"{what}: its rows may be others")
            for record in self._records(piece):
                yield self._row(position, record)
                position += 1
        except RejectError as known:
            error = known
        except UserError as cause:
            error = RejectError(RejectKind.BAD_REQUEST, str(cause))
        except (pa.ArrowException, OSError, ValueError) as cause:
            error = RejectError(RejectKind.FETCH_FAILED, f"cannot read {self._uri}: {cause}")
        else:
            return
        yield from rejected_rows(piece, self._uri, range(position, piece.start + piece.count), error)

    def _records(self, piece: Slice) -> Iterator[dict[str, Any]]:
        columns = self._columns()
        table = self._dataset.select_columns(columns).with_format("arrow")
        for start in range(piece.start, piece.start + piece.count, _BATCH_ROWS):
            batch = table[start : min(start + _BATCH_ROWS, piece.start + piece.count)]
            for i in range(batch.num_rows):
                yield {name: batch.column(name)[i] for name in columns}

    def _row(self, position: int, record: dict[str, Any]) -> Row:
        ref = RowRef(row_id_of(self._source.split, position), self._uri)
        where = f"row {position} of {ref.uri}"
        image = next(iter(record), "")
        return table_row(
            ref, where, self._source, self.wanted, image, lambda name: record[name].as_py(), self._max_bytes
        )

    def _columns(self) -> list[str]:
        return columns_to_read(self._dataset.features.arrow_schema, self._uri, self._source, self.wanted)

    @property
    def _uri(self) -> str:
        return f"{self.address or self._source.path}/{self._source.split}"

    @property
    def _dataset(self) -> Any:
        return _load(self.address or self._source.path.removeprefix(HUB), self._source.split)


def is_saved(path: str) -> bool:
    """Whether this is a folder of the disk that `save_to_disk` made."""
    return any(os.path.isfile(os.path.join(path, name)) for name in ("dataset_dict.json", "state.json"))


@lru_cache(maxsize=4)
def _load(path: str, split: str) -> Any:
    """The split, its shards mapped into memory; kept for the life of the process."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "source.format is huggingface, which needs the `datasets` library: pip install 'uniface-ray[huggingface]'"
        ) from error
    if path.startswith("s3://"):
        raise UserError(
            f"source.path is {path!r}, but Hugging Face's library reads a disk or the hub: copy the dataset to a disk, "
            "or save it as parquet, which is read from S3 as it is"
        )
    datasets.disable_progress_bars()
    try:
        found = datasets.load_from_disk(path) if is_saved(path) else datasets.load_dataset(path)
    except Exception as error:  # of any kind: the library's, the hub's, a network's
        raise UserError(
            f"source.path is {path!r}, which Hugging Face's library cannot load ({type(error).__name__}: {error}): "
            f"give a folder that save_to_disk made, a folder of data files, or {HUB}owner/name for a dataset on the hub"
        ) from error
    if isinstance(found, datasets.Dataset):  # saved without splits
        return found
    if split not in found:
        raise UserError(
            f"source.split is {split!r}, but {path} has: {', '.join(found)}. Set it to the one that is meant"
        )
    return found[split]
