"""WebDataset tars: an image and its sidecar files make a row."""

import json
from collections.abc import Iterator, Sequence, Set
from itertools import islice
from typing import Any

import pyarrow as pa

from uniface_ray.core.config import DecodeConfig, SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef, row_id_of
from uniface_ray.core.storage import FileEntry
from uniface_ray.core.storage_errors import explain, reject_of
from uniface_ray.data.fetching import check_size, fetch_rows
from uniface_ray.data.listing import SUFFIXES, DataFiles
from uniface_ray.data.slices import Slice, cannot_count, check_unchanged, rejected_rows
from uniface_ray.data.table_rows import as_text, table_row
from uniface_ray.data.tar_samples import DamagedTarError, Sample, Tar
from uniface_ray.data.wanted import Wanted

_KEY = "__key__"
_CHECKED = 100
# What is read at a time: at most, of a slice as a whole; and to count samples.
_MOST_BUFFER_BYTES = 64 * 2**20
_BUFFER_BYTES = 2**20
_IMAGES = tuple(suffix[1:] for suffix in SUFFIXES["images"])


class WebDatasetSource:
    """See `slices.Source`. A row's position is its sample's number in the tar, from 0.

    The image is the file whose extension is `source.image_column`, or else the first with an image's extension. The
    other files are columns by their extensions (`txt`, `json`, `cls`), as text; so are the keys of the object in
    `json`, and `__key__`. The tar is read from the slice's offset on, not as a whole.
    """

    format = "webdataset"
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
        names = self._first_names()
        for setting, name in self.wanted.columns(self._source):
            if setting == "source.keep_columns" and _is_image(name):
                raise UserError(f"{setting} names {name!r}, but of a tar's files only text can be kept: leave it out")
            if name not in names:
                raise UserError(
                    f"{setting} names {name!r}, which no sample has among the first {_CHECKED}: "
                    f"they have {', '.join(names)}. Give an extension, a key of the .json, or {_KEY}"
                )

    def kept(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._source.keep_columns])

    def files(self) -> Iterator[FileEntry]:
        return self._files.entries()

    def slices(self, file: FileEntry, rows: int, max_bytes: int) -> Iterator[Slice]:
        start = offset = end = count = 0

        def piece() -> Slice:
            return Slice(file.name, start, count, offset, file.size, end - offset)

        try:
            with self._files.folder.open_input(file.name) as handle:
                for sample in Tar(handle, _BUFFER_BYTES).samples():
                    if count == rows or (count and sample.end - offset > max_bytes):
                        yield piece()
                        start, offset, count = start + count, sample.offset, 0
                    end, count = sample.end, count + 1
        except (FileNotFoundError, DamagedTarError) as error:
            # One row for what is lost, which `read` will reject with the reason.
            if count:
                yield piece()
            start, count = start + count, 1
            offset = end = error.offset if isinstance(error, DamagedTarError) else 0
        except OSError as error:
            raise cannot_count(self._files.uri(file.name), error) from error
        if count:
            yield piece()

    def read(self, slices: Sequence[Slice], only: Set[int] | None = None) -> Iterator[Row]:
        rows = (row for piece in slices for row in self._rows(piece))
        return fetch_rows(rows, self._files.folder.storage, self._max_bytes, self.wanted.image, only)

    def _rows(self, piece: Slice) -> Iterator[Row]:
        position = piece.start
        uri = self._files.uri(piece.path)
        try:
            with self._files.folder.open_input(piece.path) as handle:
                check_unchanged(piece, uri, handle.size())
                tar = Tar(handle, max(_BUFFER_BYTES, min(piece.bytes, _MOST_BUFFER_BYTES)))
                for sample in islice(tar.samples(piece.offset), piece.count):
                    yield self._row(tar, piece.path, position, sample)
                    position += 1
            error = RejectError(RejectKind.NOT_FOUND, f"{uri} has no sample {position}")
        except RejectError as known:
            error = known
        except DamagedTarError as cause:
            error = RejectError(RejectKind.UNSUPPORTED_FORMAT, f"{uri} {cause}")
        except (OSError, ValueError) as cause:
            error = reject_of(cause, uri)
        yield from rejected_rows(piece, uri, range(position, piece.start + piece.count), error)

    def _row(self, tar: Tar, path: str, position: int, sample: Sample) -> Row:
        ref = RowRef(row_id_of(path, position), self._files.uri(path))
        where = f"sample {sample.key} of {ref.uri}"
        image = self._image_of(sample)

        def cell(name: str) -> Any:
            if name in sample.files:
                check_size(where, sample.files[name][1], self._max_bytes)
                data = tar.read(sample, name)
                return data if name == image or _is_image(name) else _text(data, f"{where} has a .{name}")
            return sample.key if name == _KEY else _fields_of(tar, sample).get(name)

        if self.wanted.image and image is None:
            found = ", ".join(sample.files)
            reject = RejectError(RejectKind.BAD_REQUEST, f"{where} has no image, but {found}")
            return Row(ref, reject=reject.at("read"))
        return table_row(ref, where, self._source, self.wanted, image or "", cell, self._max_bytes, as_text)

    def _image_of(self, sample: Sample) -> str | None:
        if self._source.image_column in sample.files:
            return self._source.image_column
        return next((extension for extension in sample.files if extension in _IMAGES), None)

    def _first_names(self) -> list[str]:
        """What can be kept of the first samples of the first tar that has some."""
        for file in self._files.entries():
            names = {_KEY: None}
            try:
                with self._files.folder.open_input(file.name) as handle:
                    tar = Tar(handle, _BUFFER_BYTES)
                    for sample in islice(tar.samples(), _CHECKED):
                        names |= dict.fromkeys(sample.files)
                        names |= dict.fromkeys(_fields_of(tar, sample))
            except (FileNotFoundError, DamagedTarError):
                pass  # gone since it was listed, or damaged: that is for the run to tell
            except OSError as error:
                raise explain(error, "source.path", self._files.uri(file.name)) from error
            if len(names) > 1:
                return list(names)
        return [_KEY]


def _fields_of(tar: Tar, sample: Sample) -> dict[str, Any]:
    """The object in the sample's .json; empty where there is none or it is broken."""
    try:
        found = json.loads(tar.read(sample, "json")) if "json" in sample.files else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_image(extension: str) -> bool:
    """Also of several: a mask in `seg.png`. Which of them is the row's image, `_image_of` says."""
    return extension.rpartition(".")[2] in _IMAGES


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RejectError(RejectKind.BAD_REQUEST, f"{what} that is no text: {error}") from error
