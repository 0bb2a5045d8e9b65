"""Files of a local disk, by absolute path."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from uniface_ray.core.errors import UserError

# Files that are not in place yet. One may stay behind where a process was killed; it is no file of the folder.
_TEMPORARY = ".writing-"


class Disk:
    """The same methods as `s3.Bucket`."""

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Whole or not at all: a temporary file beside the target, flushed to the disk, renamed over it."""
        with _temporary(path, data) as temporary:
            os.replace(temporary, path)

    def create(self, path: str, data: bytes) -> bool:
        """The same, only where there is no file yet; False where there is one of other content.

        A hard link is atomic on NFS too. Where there are none (FAT, some network drives), two processes that create
        the same file within milliseconds may both succeed.
        """
        return _created(path, data) or self.read(path) == data

    def version(self, path: str) -> str | None:
        """What changes with every write of a file; None where there is none."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"

    def write_over(self, path: str, data: bytes, version: str | None) -> str | None:
        """Write where the file is still as it was at `version`: its new version, or None where it is not.

        Look and write are two steps: whoever must not lose a race holds `locked` over them.
        """
        if version is None:
            return self.version(path) if _created(path, data) else None
        if self.version(path) != version:
            return None
        self.write(path, data)
        return self.version(path)

    def remove(self, path: str, version: str) -> bool:
        """Delete, likewise; False where the file is not as it was."""
        if self.version(path) != version:
            return False
        self.delete(path)
        return True

    @contextmanager
    def locked(self, path: str, alone: bool, patience_s: float) -> Iterator[None]:
        """Hold the file `path` (made where it is not there), with others or alone; it is free when its process dies.

        Where a filesystem knows no locks, nothing is held.

        Raises:
            TimeoutError: others did not let go.
        """
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with _without_locks():
                _wait_for_lock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, path, patience_s)
            yield
        finally:
            os.close(handle)

    def size(self, path: str) -> int | None:
        """Bytes of a regular file; None where there is no such file."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def list(self, path: str, recursive: bool) -> Iterator[tuple[str, int, float]]:
        """(path relative to `path`, bytes, modification time in Unix seconds) of every file, by that path.

        Links are followed; a link to nothing is listed with 0 bytes, so that it is told rather than lost.

        Raises:
            FileNotFoundError: no such folder; one that vanishes later, inside this one, is passed over.
            OSError: a folder inside cannot be read.
            UserError: a name is not UTF-8, so no table can hold it.
        """
        os.stat(path)
        return _walk(path, "", recursive, set())

    def open_input(self, path: str) -> pa.NativeFile:
        return pa.OSFile(path)


def _walk(path: str, inside: str, recursive: bool, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int, float]]:
    """One folder at a time in memory; `seen` knows folders by device and inode, so that links make no circles."""
    try:
        with os.scandir(path) as entries:
            found = {entry.name + "/" * entry.is_dir(): entry.path for entry in entries}
        status = os.stat(path)
    except FileNotFoundError:
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for name in sorted(found):  # with the slash of a folder: the order of whole paths
        if name.endswith("/"):
            if recursive:
                yield from _walk(found[name], inside + name, recursive, seen)
            continue
        _check_name(found[name])
        file = None if name.startswith(_TEMPORARY) else _stat(found[name])
        if file is None:
            continue
        if stat.S_ISREG(file.st_mode) or stat.S_ISLNK(file.st_mode):
            yield inside + name, file.st_size if stat.S_ISREG(file.st_mode) else 0, file.st_mtime


def _created(path: str, data: bytes) -> bool:
    """Put a file in place; False where there is one."""
    with _temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            if os.path.exists(path):
                return False
            os.replace(temporary, path)
    return True


@contextmanager
def _temporary(path: str, data: bytes) -> Iterator[str]:
    """A file with this content beside `path`, on the disk for good; what is done with it then is so too."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{_TEMPORARY}{uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        _sync_folder(folder)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


@contextmanager
def _without_locks() -> Iterator[None]:
    """Go on where the filesystem knows no locks."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise


def _wait_for_lock(handle: int, kind: int, path: str, patience_s: float) -> None:
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                raise TimeoutError(errno.ETIMEDOUT, f"{path} is locked by another process", path) from None
        time.sleep(0.02)


def _stat(path: str) -> os.stat_result | None:
    """Of the file, or of a link to nothing; None for what has gone since its folder was read."""
    for look in (os.stat, os.lstat):
        with suppress(FileNotFoundError):
            return look(path)
    return None


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"file {os.fsencode(path)!r} has a name that is not UTF-8, which no table can hold: rename it"
        ) from error


def _sync_folder(folder: str) -> None:
    """Make a rename outlive a power cut; some filesystems cannot, and need not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
