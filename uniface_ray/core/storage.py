"""Folders on a local disk or in S3, behind one handle that travels to workers."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa

import uniface_ray
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.disk import Disk
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.s3 import Bucket, is_refusal, is_unreachable, open_bucket

_S3 = "s3://"
# A server that is not there should be told in seconds, not after all the patience that a running job has.
_CHECK_ATTEMPTS = 2


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
    Unicode are names like others. Errors are OSErrors (`FileNotFoundError` for what is not there); `explain`
    turns them into a message for the user, `reject_of` into the reject of a row.

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

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all in it; what is not there is fine."""
        self._files.delete_folder(self._path(name))

    def list(self, name: str = "", recursive: bool = False) -> list[FileEntry]:
        """Files of a folder inside, or of all folders below it, sorted by name.

        A folder that is not there has no files.
        """
        prefix = f"{name}/" if name else ""
        try:
            found = [
                FileEntry(prefix + path, size, modified)
                for path, size, modified in self._files.list(self._path(name), recursive)
            ]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda entry: entry.name)

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

    def make_writable(self, setting: str) -> None:
        """Make the folder, and prove that it can be written to by a file that is written and removed again.

        Args:
            setting: that gave the path, for the message.

        Raises:
            UserError: it cannot be made or written, no such bucket, credentials refused, no answer.
        """
        self.check(setting)
        probe = f".probe-{uuid4().hex}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except OSError as error:
            raise explain(error, setting, self.uri) from error

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
            # The client knows no empty parts in a key.
            bucket, *key = [part for part in rest.split("/") if part] or [""]
            if not bucket or not rest.startswith("/"):
                raise UserError(f"{uri!r} names no bucket: write s3://bucket/folder/")
            return _S3 + "/".join([bucket, *key])
        case "file":  # with a host or without: file://localhost/a, file:///a, file:/a
            path = rest[1:].partition("/")[2] if rest.startswith("/") else rest
            return os.path.abspath("/" + unquote(path))
        case "package":
            return os.path.abspath(Path(uniface_ray.__file__).parent / rest.lstrip("/"))
        case _:
            raise UserError(f"{uri!r} is a {scheme}:// address, but only local paths and s3:// are supported")


def explain(error: OSError, setting: str, uri: str) -> UserError:
    """What a storage error means to the user who set `setting` to `uri`."""
    bucket = uri[len(_S3) :].partition("/")[0]
    if not uri.startswith(_S3):
        reason = error.strerror or str(error)
        return UserError(f"{setting} is {uri!r}, which cannot be used ({reason}): give one you have rights to")
    if isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in str(error):
        return UserError(
            f"{setting} is {uri!r}, but there is no bucket {bucket!r} on this server: create it, or correct "
            "the name or storage.endpoint"
        )
    if is_refusal(error):
        return UserError(
            f"{setting} is {uri!r}, but the server refused these credentials for it: check storage.access_key "
            "and storage.secret_key (or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE), or set "
            f"storage.anonymous=true for a public bucket. The server said: {error}"
        )
    if is_unreachable(error):
        return UserError(
            f"{setting} is {uri!r}, but its server does not answer: check storage.endpoint (or "
            "AWS_ENDPOINT_URL), its http:// or https://, and storage.region. "
            f"The client said: {error}"
        )
    return UserError(f"{setting} is {uri!r}, which cannot be used: {error}")


def fetch(uri: str, storage: StorageConfig, max_bytes: int) -> bytes:
    """All of a file that a row names.

    Raises:
        RejectError: not there, more than `max_bytes`, an address of another kind, or the storage failed.
    """
    try:
        folder, name = open_path(uri, storage)
        # Opening a pipe would wait for ever, and only a disk has any.
        if folder.is_local and not folder.exists(name):
            raise RejectError(RejectKind.NOT_FOUND, f"no such file: {uri}")
        with folder.open_input(name) as file:
            check_size(uri, file.size(), max_bytes)
            data: bytes = file.read()
    except UserError as error:
        raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error
    except (OSError, ValueError) as error:
        raise reject_of(error, uri) from error
    return data


def check_size(uri: str, size: int, max_bytes: int) -> None:
    """Raise the RejectError of a file that is too large."""
    if size > max_bytes:
        raise RejectError(RejectKind.TOO_LARGE, f"{uri} has {size:,} bytes, but decode.max_bytes allows {max_bytes:,}")


def is_storage_failure(error: Exception) -> bool:
    """Whether the storage failed, rather than that the bytes it gave make no sense to a reader."""
    return isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error))


def reject_of(error: OSError | ValueError, uri: str) -> RejectError:
    """The reject of a row whose file gave this error."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RejectError(RejectKind.NOT_FOUND, f"no such file: {uri}")
    reason = getattr(error, "strerror", None) or str(error)
    return RejectError(RejectKind.FETCH_FAILED, f"cannot read {uri}: {reason}")
