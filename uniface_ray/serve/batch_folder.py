"""One batch, as it stands in the storage: the server and the process that works on it share nothing else.

    request.json      what was asked, and the server's settings then; written once, by the server
    state.json        how far it is; written by whoever works on it
    cancel            somebody asked for its end
    attempt-<n>.json  the n-th process was started: whoever creates this file may start it
    log.txt           what the processes said; in a bucket, the end of what the last one that ended said
    beat.json         rewritten every few seconds by the process that works on it
    runs/<n>/         source and sink of the n-th run of our own pipeline, until the batch has ended

Beside it, `open/<owner>/<batch>` stands as long as there is something to do. All of it survives the server.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from uniface_ray.core.storage import Folder
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.store import is_id

ENDED = ("completed", "failed", "expired", "cancelled")
# Processes that may work on a batch, one after the other; one more only gives out what they have done.
MOST_ATTEMPTS = 5
_OPEN = "open"


@dataclass(frozen=True, slots=True)
class BatchFolder:
    """Where a batch is.

    Attributes:
        folder: of all owners.
        owner: name of the key whose batch it is.
        id: `batch_...`.
    """

    folder: Folder
    owner: str
    id: str

    @classmethod
    def all_open(cls, folder: Folder) -> "Iterator[BatchFolder]":
        """Those that have not ended, the oldest first."""
        found = [entry.name.split("/")[1:] for entry in folder.list(_OPEN, recursive=True)]
        yield from (cls(folder, owner, number) for owner, number in sorted(found, key=lambda one: one[1]))

    @classmethod
    def of_owner(cls, folder: Folder, owner: str) -> "list[BatchFolder]":
        """All of an owner, the newest first."""
        names = [entry.name for entry in folder.list(f"owners/{owner}/batches")]
        return [cls(folder, owner, name.rpartition("/")[2]) for name in reversed(names)]

    def create(self, request: dict[str, Any]) -> None:
        """Begin it."""
        self._write("request.json", request)
        self.folder.write(self._open, b"")
        self.folder.write(
            f"owners/{self.owner}/batches/{self.id}", b""
        )  # the list of them; what is in it is in `batch/`

    def request(self) -> dict[str, Any]:
        """What was asked.

        Raises:
            ApiError: 404, there is no such batch.
        """
        found = self._read("request.json") if is_id(self.id, "batch_") else None
        if found is None:
            raise ApiError(404, f"there is no batch {self.id!r:.80}", param="batch_id", code="batch_not_found")
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it is there, and nobody is removing it."""
        return self._read("request.json") is not None

    def state(self) -> dict[str, Any]:
        """How far it is: `status`, times, counts and files, in OpenAI's words."""
        return self._read("state.json") or {"status": "validating"}

    def tell(self, state: dict[str, Any]) -> None:
        """It is now so far. Its end is remembered."""
        self._write("state.json", state)
        if state["status"] in ENDED:
            self.folder.delete(self._open)

    def cancel(self) -> None:
        """Ask for its end."""
        self._write("cancel", {"at": int(time.time())})

    @property
    def cancelled_at(self) -> int | None:
        """When somebody asked for its end."""
        found = self._read("cancel")
        return found["at"] if found else None

    def beat(self) -> None:
        """Say that somebody works on it."""
        self._write("beat.json", {"at": time.time()})

    def last_sign_s(self) -> float | None:
        """Seconds since somebody worked on it, or began to; None where nobody ever did."""
        found = self._read("beat.json")
        signs = [found["at"]] if found else []
        if attempts := self.attempts():
            last = self._read(f"attempt-{attempts:03d}.json")
            signs += [last["at"]] if last else []
        return time.time() - max(signs) if signs else None

    def attempts(self) -> int:
        """How often somebody began to work on it."""
        return sum(entry.name.startswith(f"{self.home}/attempt-") for entry in self.folder.list(self.home))

    def begin(self, number: int) -> bool:
        """Whether the attempt `number` is the caller's: of several, one succeeds."""
        content = json.dumps({"at": time.time(), "by": id(self)}).encode()
        return self.folder.create(f"{self.home}/attempt-{number:03d}.json", content)

    def keep_log(self, text: bytes) -> None:
        """Keep what a process that has ended said."""
        self.folder.write(f"{self.home}/log.txt", text)

    def delete_runs(self) -> None:
        """Remove what its runs read and wrote, which may be large."""
        for entry in [*self.folder.walk(f"{self.home}/runs")]:
            self.folder.delete(entry.name)

    def delete(self) -> None:
        """Remove all of it."""
        for entry in [*self.folder.walk(self.home)]:
            self.folder.delete(entry.name)
        self.folder.delete(self._open)
        self.folder.delete(f"owners/{self.owner}/batches/{self.id}")

    @property
    def home(self) -> str:
        """Its own folder inside `folder`."""
        return f"owners/{self.owner}/batch/{self.id}"

    @property
    def _open(self) -> str:
        return f"{_OPEN}/{self.owner}/{self.id}"

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.folder.write(f"{self.home}/{name}", json.dumps(content).encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.folder.read(f"{self.home}/{name}"))
        except FileNotFoundError:
            return None
        return found


__all__ = ["ENDED", "MOST_ATTEMPTS", "BatchFolder"]
