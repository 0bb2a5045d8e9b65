"""Samples of a tar in the WebDataset convention: neighbouring files whose names differ after the first dot only."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

_BLOCK = 512


class DamagedTarError(Exception):
    """A tar that ends early, or holds something else than files from some place on.

    Attributes:
        offset: where the sample or header that is lost begins.
        in_sample: it is a file of the sample under way that is cut.
    """

    def __init__(self, message: str, offset: int, in_sample: bool = False) -> None:
        super().__init__(message)
        self.offset = offset
        self.in_sample = in_sample


@dataclass(slots=True)
class Sample:
    """Files with one key.

    Attributes:
        key: folder and name up to the first dot.
        offset: bytes of the tar before its first header.
        end: bytes before what follows it.
        files: extension (lower case, what follows the first dot) -> (offset, bytes) in the tar.
    """

    key: str
    offset: int
    end: int
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


class Tar:
    """A tar that is open.

    Args:
        handle: the file.
        buffer: bytes to read at a time. Files of a tar are mostly small, so many come with one request.
    """

    def __init__(self, handle: pa.NativeFile, buffer: int) -> None:
        raw: Any = handle  # pyarrow's files are raw streams in all but their type
        self._size = handle.size()
        self._stream = io.BufferedReader(raw, buffer)

    def read(self, sample: Sample, extension: str) -> bytes:
        """The content of one of a sample's files."""
        offset, size = sample.files[extension]
        self._stream.seek(offset)
        return self._stream.read(size)

    def samples(self, offset: int = 0) -> Iterator[Sample]:
        """The samples from a header at `offset` on. What files hold is passed over; it may be read in between.

        Raises:
            DamagedTarError: after the last sample that is whole.
        """
        sample = None
        try:
            for member in self._members(offset):
                key, extension = _split(member.name)
                if sample and sample.key != key:
                    yield sample
                    sample = None
                sample = sample or Sample(key, member.offset, member.offset)
                sample.files[extension] = (member.offset_data, member.size)
                sample.end = _end_of(member)
        except DamagedTarError as error:
            if sample and error.in_sample:
                error.offset = sample.offset
            elif sample:
                yield sample
            raise
        if sample:
            yield sample

    def _members(self, offset: int) -> Iterator[tarfile.TarInfo]:
        self._stream.seek(offset)
        end = offset
        try:
            with tarfile.open(fileobj=self._stream, mode="r:") as tar:
                for member in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # else it remembers each one
                    end = _end_of(member)
                    if member.isfile():
                        yield member
                    if member.offset_data + member.size > self._size:
                        what = f"is cut short: {member.name} should reach byte {member.offset_data + member.size:,}"
                        raise DamagedTarError(f"{what}, but there are {self._size:,}", member.offset, in_sample=True)
                end = tar.offset
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:  # whatever a header says
            raise DamagedTarError(f"is no tar, or damaged, at byte {end:,}: {error}", end) from error
        # tarfile takes a header that makes no sense for the end; the end is a block of zeros, or of the file.
        self._stream.seek(end)
        if self._stream.read(_BLOCK).strip(b"\0"):
            raise DamagedTarError(f"is damaged at byte {end:,}: no file begins there", end)


def _end_of(member: tarfile.TarInfo) -> int:
    return member.offset_data + -(-member.size // _BLOCK) * _BLOCK


def _split(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()
