"""What clients leave with the server: files in pieces, in folders of their owners, on a disk or in S3."""

import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from uniface_ray.core.storage import Folder
from uniface_ray.serve.errors import ApiError

PIECE_BYTES = 8 * 2**20  # what is held in memory of a file
_DAY_S = 86400


def new_id(kind: str) -> str:
    """`kind` and digits: later ones sort behind earlier ones, and nobody guesses them."""
    return f"{kind}{time.time_ns():016x}{secrets.token_hex(8)}"


def _made_s(number: str) -> float:
    """Unix seconds when `new_id` made it."""
    return int(number[-32:-16], 16) / 1e9


def is_id(number: str, kind: str) -> bool:
    """Whether `new_id` may have made it: nothing else is looked for in the storage."""
    return re.fullmatch(f"{kind}[0-9a-f]{{32}}", number) is not None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file, as OpenAI's API describes it.

    Attributes:
        id: `file-...`.
        bytes: its size.
        created_at: Unix seconds.
        expires_at: after which it is gone.
        filename: as the client called it.
        purpose: `batch`, or `batch_output`.
    """

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str

    def to_api(self) -> dict[str, Any]:
        """The file object."""
        return {"object": "file", "status": "processed", **asdict(self)}


class Store:
    """The files of one owner. Other owners' are not there for it.

    Args:
        folder: of all owners.
        owner: name of a key.
        max_bytes: of all files together.
        keep_days: after which a file is gone.
    """

    def __init__(self, folder: Folder, owner: str, max_bytes: int, keep_days: float) -> None:
        self.folder = folder
        self.owner = owner
        self._max_bytes = max_bytes
        self._keep_s = keep_days * _DAY_S

    def put(self, pieces: Iterable[bytes], filename: str, purpose: str) -> FileRecord:
        """Keep a file; it is there once all of it is.

        Args:
            pieces: of its content, each at most `PIECE_BYTES`.
            filename: as the client calls it; folders in it are left out.
            purpose: see `FileRecord`. What a batch gives out is kept however much there is by then; it counts as well.

        Raises:
            ApiError: 413, it is more than the owner may keep.
        """
        bounded = purpose == "batch"
        left = self._left(0) if bounded else 0
        number, size = new_id("file-"), 0
        try:
            for index, piece in enumerate(pieces):
                if bounded and size + len(piece) > left:
                    left = size + self._left(len(piece))
                    if size + len(piece) > left:
                        raise self._full("file")
                size += len(piece)
                self.folder.write(f"{self._home}/{number}/{index:06d}", piece)
            now = int(time.time())
            record = FileRecord(number, size, now, now + int(self._keep_s), _plain(filename), purpose)
            text = json.dumps(asdict(record)).encode()
            self.folder.write(f"{self._home}/{number}.json", text)
            if bounded and self._left(-len(text)) < -len(text):
                raise self._full("file")  # others came at the same time
        except BaseException:
            self._drop(number)
            raise
        return record

    def check_room(self, param: str) -> None:
        """Look whether the owner may keep more.

        Args:
            param: the field of the request that will need it.

        Raises:
            ApiError: 413, it has as much as it may keep.
        """
        if self._left(1) <= 0:
            raise self._full(param)

    def get(self, number: str) -> FileRecord:
        """What is known of a file.

        Raises:
            ApiError: 404, the owner has no such file.
        """
        record = self.find(number)
        if record is None:
            raise ApiError(404, f"there is no file {number!r:.80}", param="file_id", code="file_not_found")
        return record

    def content(self, number: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """A file, or its bytes from `begin` to before `end`, piece by piece."""
        place = 0
        for entry in self.folder.list(f"{self._home}/{number}"):
            first, last = begin - place, entry.size if end is None else end - place
            if first < entry.size and last > 0:
                yield self.folder.read(entry.name)[max(first, 0) : last]
            place += entry.size

    def lines(self, number: str, most: int) -> Iterator[bytes]:
        """A file line by line, without line ends; of one longer than `most` bytes, only its beginning, just longer."""
        rest = b""
        for piece in self.content(number):
            *whole, last = piece.split(b"\n")
            if whole:
                yield (rest + whole[0])[: most + 1]
                yield from (line[: most + 1] for line in whole[1:])
                rest = b""
            rest = (rest + last)[: most + 1]
        if rest:
            yield rest

    def ids(self) -> list[str]:
        """Of all files, the newest first; some may have expired."""
        names = [entry.name for entry in self.folder.list(self._home) if entry.name.endswith(".json")]
        return [PurePath(name).stem for name in reversed(names)]

    def find(self, number: str) -> FileRecord | None:
        """What is known of a file; None where the owner has no such file."""
        record = self._read(number)
        return record if record and record.expires_at > time.time() else None

    def delete(self, number: str) -> None:
        """Remove a file.

        Raises:
            ApiError: 404, the owner has no such file.
        """
        self.get(number)
        self._drop(number)

    def sweep(self) -> None:
        """Remove files that have expired, and what is left of those that were never whole."""
        found = {PurePath(entry.name).relative_to(self._home).parts[0] for entry in self.folder.walk(self._home)}
        for number in {name.removesuffix(".json") for name in found}:
            if not is_id(number, "file-"):
                continue
            record = self._read(number)
            ends_s = record.expires_at if record else _made_s(number) + _DAY_S
            if ends_s <= time.time():
                self._drop(number)

    def _left(self, needed: int) -> int:
        """Bytes that the owner may still keep; fewer than none where batches gave out more.

        What has expired counts, and is removed where it is in the way of what is needed.
        """
        left = self._max_bytes - self._bytes()
        if left < needed:
            self.sweep()
            left = self._max_bytes - self._bytes()
        return left

    def _bytes(self) -> int:
        return sum(one.size for one in self.folder.walk(self._home))

    def _full(self, param: str) -> ApiError:
        what = f"this key may keep {self._max_bytes:,} bytes of files (files.owner_bytes); delete some first"
        return ApiError(413, what, param=param, code="quota_exceeded")

    @property
    def _home(self) -> str:
        return f"owners/{self.owner}/files"

    def _read(self, number: str) -> FileRecord | None:
        if not is_id(number, "file-"):
            return None
        try:
            return FileRecord(**json.loads(self.folder.read(f"{self._home}/{number}.json")))
        except FileNotFoundError:
            return None

    def _drop(self, number: str) -> None:
        self.folder.delete(f"{self._home}/{number}.json")  # first: what is left then is nobody's
        for entry in self.folder.list(f"{self._home}/{number}"):
            self.folder.delete(entry.name)


def _plain(name: str) -> str:
    last = PurePath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:255] or "file"


__all__ = ["PIECE_BYTES", "FileRecord", "Store", "is_id", "new_id"]
