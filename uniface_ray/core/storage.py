"""Folders on a local disk or in S3, behind one handle that travels to workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa

from uniface_ray.core.config import HUB, StorageConfig
from uniface_ray.core.disk import Disk
from uniface_ray.core.errors import UserError
from uniface_ray.core.s3 import Bucket, open_bucket
from uniface_ray.core.storage_errors import explain

_S3 = "s3://"
_PACKAGE = Path(__file__).resolve().parents[1]
# A server that is not there should be told in seconds, not after all the patience that a running job has.
_CHECK_ATTEMPTS = 2
_LOCK_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a listing.

    Attributes:
        name: relative to the folder that was listed, parts joined by `/`.
        size: bytes.
        modified: Unix seconds.
    """

    name: str
    size: int
    modified: float


class Folder:
    """A folder, there or not yet. It pickles to its address; clients are made where it is used.

    Names are relative to the folder, parts joined by `/`, and taken literally: spaces, `%`, `#`, `=` and any
    Unicode are names like others. Errors are OSErrors (`FileNotFoundError` for what is not there); see
    `storage_errors` for what to make of them.

    Args:
        uri: local path (relative ones from the working directory), `s3://bucket/prefix`, `file://...`, or
            `package://...` for what ships with this package.
        storage: how to reach S3.

    Raises:
        UserError: another kind of URI.
    """

    def __init__(self, uri: str, storage: StorageConfig) -> None:
        self.uri = absolute(uri)
        self.storage = storage

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    @property
    def is_local(self) -> bool:
        return not self.uri.startswith(_S3)

    @property
    def bucket(self) -> str:
        """The S3 bucket; empty for a local folder."""
        return "" if self.is_local else self.uri[len(_S3) :].partition("/")[0]

    @property
    def is_bucket_root(self) -> bool:
        """Whether this is a whole bucket."""
        return self.uri == f"{_S3}{self.bucket}"

    def read(self, name: str) -> bytes:
        """All of a file."""
        return self._files.read(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, whole or not at all, over what was there; makes the folders above it."""
        self._files.write(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place only where there is none: of several processes that try, one succeeds.

        Returns:
            Whether the file holds `data` now; False where it was there with another content.
        """
        return self._files.create(self._path(name), data)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is no such file."""
        return self._files.size(self._path(name))

    def exists(self, name: str) -> bool:
        """Whether there is a file (not a folder) of that name."""
        return self.size(name) is not None

    def is_folder(self, name: str = "") -> bool:
        return self._files.is_folder(self._path(name))

    def delete(self, name: str) -> None:
        """Remove a file; what is not there is fine."""
        self._files.delete(self._path(name))

    def list(self, name: str = "", recursive: bool = False) -> list[FileEntry]:
        """Files of a folder inside, or of all folders below it, sorted by name; see `walk`."""
        return sorted(self.walk(name, recursive), key=lambda entry: entry.name)

    def walk(self, name: str = "", recursive: bool = True) -> Iterator[FileEntry]:
        """The same one by one, in the storage's own order (of a disk, and mostly of S3, by name).

        Millions of files need no more memory than the largest folder of a disk.

        A folder that is not there has no files.
        """
        prefix = f"{name}/" if name else ""
        try:
            for path, size, modified in self._files.list(self._path(name), recursive):
                yield FileEntry(prefix + path, size, modified)
        except FileNotFoundError:
            return

    @contextmanager
    def locked(self, name: str, alone: bool = False) -> Iterator[None]:
        """Hold a lock file, with others or alone. Only on a disk: a bucket has none, and nothing is held there.

        Raises:
            TimeoutError: others did not let go of it in half a minute.
        """
        with Disk().locked(self._path(name), alone, _LOCK_PATIENCE_S) if self.is_local else nullcontext():
            yield

    def open_input(self, name: str) -> pa.NativeFile:
        """Open a file for reading at any position."""
        return self._files.open_input(self._path(name))

    def check(self, setting: str) -> None:
        """Ask S3 whether the bucket is there and answers; nothing to ask of a disk.

        Raises:
            UserError: no such bucket, credentials refused, no answer.
        """
        if not self.is_local:
            hasty = self.storage.model_copy(update={"attempts": min(self.storage.attempts, _CHECK_ATTEMPTS)})
            try:
                open_bucket(hasty, self.bucket).check_bucket(self.bucket)
            except OSError as error:
                raise explain(error, setting, self.uri) from error

    def make_writable(self, setting: str) -> bool:
        """Make the folder, and prove that it can be written to by a file that is written and removed again.

        Args:
            setting: that gave the path, for the message.

        Returns:
            Whether the storage keeps two processes from creating the same file.

        Raises:
            UserError: it cannot be made or written, no such bucket, credentials refused, no answer.
        """
        self.check(setting)
        probe = f".probe-{uuid4().hex}"
        try:
            exclusive = self.create(probe, b"one") and not self.create(probe, b"another")
            self.delete(probe)
        except OSError as error:
            raise explain(error, setting, self.uri) from error
        return exclusive

    @property
    def _files(self) -> Disk | Bucket:
        return Disk() if self.is_local else open_bucket(self.storage, self.bucket)

    def _path(self, name: str) -> str:
        uri = join(self.uri, name)
        return uri if self.is_local else uri[len(_S3) :]


def open_path(uri: str, storage: StorageConfig) -> tuple[Folder, str]:
    """A single file's address -> its folder and its name there."""
    parent, _, name = absolute(uri).rpartition("/")
    return Folder(parent or "/", storage), name


def join(uri: str, name: str) -> str:
    """The address of `name` in the folder `uri`."""
    return f"{uri.rstrip('/')}/{name}" if name else uri


def address_of(source: str) -> str:
    """Of a source, as `absolute` has it; the name of what is on a hub stays as it is."""
    return source if source.startswith(HUB) else absolute(source)


def absolute(uri: str) -> str:
    """An absolute local path or an s3:// URI, without a slash at its end.

    Raises:
        UserError: a URI of another kind, or one without a bucket.
    """
    scheme, separator, rest = uri.partition(":/")
    if not separator or not scheme.isalnum():
        return os.path.abspath(uri)
    match scheme.lower():
        case "s3":
            bucket, _, key = rest[1:].partition("/")
            if not bucket or not rest.startswith("/"):
                raise UserError(f"{uri!r} names no bucket: write s3://bucket/folder/")
            # The client knows no empty parts in a key.
            return _S3 + "/".join([bucket, *(part for part in key.split("/") if part)])
        case "file":  # with a host or without: file://localhost/a, file:///a, file:/a
            path = rest[1:].partition("/")[2] if rest.startswith("/") else rest
            return os.path.abspath("/" + unquote(path))
        case "package":
            return os.path.abspath(_PACKAGE / rest.lstrip("/"))
        case _:
            raise UserError(f"{uri!r} is a {scheme}:// address, but only local paths and s3:// are supported")
