"""A sink as its run sees it: every write first makes sure that the sink is still the run's."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import SinkInUseError
from uniface_ray.core.storage import Folder

_TRIES = 5
# On a disk, writes of the same name wait for each other; so do those of one name in so many others.
_LOCKS = 16


def lease_name(token: int) -> str:
    """Of the file whose being there says that this token was given out."""
    return f"lease/{token:08d}.json"


def taken_over(setting: str, uri: str) -> SinkInUseError:
    """What to tell of a sink that is another run's by now."""
    return SinkInUseError(
        f"{setting} is {uri!r}, which another run has taken over in the meantime: this one ends, and what it has not "
        "committed is the other's to do"
    )


class Fenced(Folder):
    """A folder for the holder of one token; it travels to workers as any folder does.

    Every change goes through only where the file is as it was when it was looked at: so nothing that a later run wrote
    is ever replaced. On a disk, look and write are one step under a lock: whoever takes the sink over waits for writes
    that have begun. What a bucket cannot prevent is that a worker which stood still between the two makes an object
    that was not there.

    Args:
        uri: of the sink.
        storage: how to reach S3.
        token: of the run.

    Raises (every change):
        SinkInUseError: another run has taken the sink.
    """

    def __init__(self, uri: str, storage: StorageConfig, token: int) -> None:
        super().__init__(uri, storage)
        self.token = token

    def check(self, setting: str = "sink.path") -> None:
        """Raise SinkInUseError where the sink is another run's."""
        if self.exists(lease_name(self.token + 1)):
            raise taken_over(setting, self.uri)

    def version(self, name: str) -> str | None:
        """What changes with a file's content; None where there is no such file."""
        return self._files.version(self._path(name))

    def replace(self, name: str, data: bytes, version: str | None) -> str | None:
        """Write where the file is still as it was at `version` (None: not there).

        Returns:
            Its new version; None where it was changed by somebody else.
        """
        with self._held(name):
            self.check()
            written = self._files.write_over(self._path(name), data, version)
        if written is None:
            # A request that was tried again after its answer was lost finds its own first try.
            there = self.version(name)
            if there != version and there is not None and self.read(name) == data:
                return there
        return written

    def remove(self, name: str, version: str) -> bool:
        """Delete where the file is still as it was at `version`; False where it is not."""
        with self._held(name):
            self.check()
            return self._files.remove(self._path(name), version)

    def write(self, name: str, data: bytes) -> None:
        for _ in range(_TRIES):
            if self.replace(name, data, self.version(name)) is not None:
                return
        raise OSError(f"{name} in {self.uri} changes while it is written")

    def create(self, name: str, data: bytes) -> bool:
        return self.replace(name, data, None) is not None

    def delete(self, name: str) -> None:
        for _ in range(_TRIES):
            version = self.version(name)
            if version is None:
                return self.check()
            if self.remove(name, version):
                return
        raise OSError(f"{name} in {self.uri} changes while it is deleted")

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        lock = f"lease/lock-{zlib.crc32(name.encode()) % _LOCKS:02d}"
        with self.locked("lease/lock"), self.locked(lock, alone=True):
            yield
