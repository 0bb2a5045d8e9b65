"""A sink as its run sees it: every write first makes sure that the sink is still the run's."""

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import SinkInUseError
from uniface_ray.core.storage import Folder

_TRIES = 5


def lease_name(token: int) -> str:
    """Of the file whose being there says that this token was given out."""
    return f"lease/{token:08d}.json"


class Fenced(Folder):
    """A folder for the holder of one token; it travels to workers as any folder does.

    On a disk, look and write are one step: whoever takes the sink over waits for writes that have begun. In a bucket, a
    write goes through only where the object is as it was before the look, so nothing that a later run wrote is ever
    replaced. What a bucket cannot prevent is that a worker which stood still between the two makes an object that was
    not there.

    Args:
        uri: of the sink.
        storage: how to reach S3.
        token: of the run.

    Raises (every write):
        SinkInUseError: another run has taken the sink.
    """

    def __init__(self, uri: str, storage: StorageConfig, token: int) -> None:
        super().__init__(uri, storage)
        self.token = token

    def check(self, setting: str = "sink.path") -> None:
        """Raise SinkInUseError where the sink is another run's."""
        if self.exists(lease_name(self.token + 1)):
            raise SinkInUseError(
                f"{setting} is {self.uri!r}, which another run has taken over in the meantime: this one ends, and "
                "what it has not committed is the other's to do"
            )

    def write(self, name: str, data: bytes) -> None:
        for _ in range(_TRIES):
            with self.locked("lease/lock"):
                version = self._files.version(self._path(name))
                self.check()
                if self._files.write_over(self._path(name), data, version):
                    return
        raise OSError(f"{name} in {self.uri} changes while it is written")

    def create(self, name: str, data: bytes) -> bool:
        with self.locked("lease/lock"):
            self.check()
            return super().create(name, data)

    def delete(self, name: str) -> None:
        with self.locked("lease/lock"):
            # Looked for first: what another run makes after the check is not there to be deleted. In a bucket, a DELETE
            # that stands still between the two can still meet a file that was there before.
            there = self.exists(name)
            self.check()
            if there:
                super().delete(name)
