"""The lease of a sink: one run writes to it at a time, and one that has lost it writes no more.

    lease/00000003.json   made by the third run, which rewrites it while it lives
    lease/lock            on a disk: held by a write while it looks and writes, and by who takes over
    lease/lock-00 ...     likewise: held by a write alone, against writes of the same file

A run takes a sink by creating the file of the next number, which only one of several can (`Folder.create`). That
number is its token. Whoever finds a file with a higher number than its own has lost the sink: `Fenced` looks before
every write.
"""

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

from uniface_ray.core.errors import SinkInUseError, StoppedError, UniFaceError
from uniface_ray.core.fenced import Fenced, lease_name, taken_over
from uniface_ray.core.processes import is_stopped, machine, process_start
from uniface_ray.core.storage import Folder
from uniface_ray.core.storage_errors import explain

TTL_S = 30.0
_LEASE = re.compile(r"lease/\d{8,}\.json")
_LOOK_EVERY_S = 1.0
# Runs of this very process; what else says it is of this process and is not here has ended without a word.
_ours: set[str] = set()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a sink.

    Attributes:
        token: counts up with every run on the sink.
        run: random, of this run alone.
        host: for people.
        machine: boot and process namespace, in which `pid` means something.
        pid: of the driver.
        process: when that process started, so that another one of the same number is told apart.
        since: ISO 8601.
        renewed_at: likewise; rewritten while the run lives.
        released: it has ended, and left the sink in order.
    """

    token: int
    run: str
    host: str
    machine: str
    pid: int
    process: str
    since: str
    renewed_at: str
    released: bool = False

    @classmethod
    def here(cls) -> "Holder":
        """This process, with a token still to be found."""
        pid = os.getpid()
        return cls(0, uuid4().hex, socket.gethostname(), machine(), pid, process_start(pid), _now(), _now())

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Holder":
        values = json.loads(text)
        return cls(**{name: values[name] for name in cls.__slots__ if name in values})

    @classmethod
    def unknown(cls, token: int, text: bytes) -> "Holder":
        """Whoever wrote a lease that makes no sense here: somebody, of whom only changes tell."""
        return cls(token, "", "an unknown machine", "", 0, "", "an unknown time", hashlib.sha256(text).hexdigest())

    def is_alive(self) -> bool | None:
        """None where only time can tell: it is another machine's."""
        if self.released:
            return False
        if self.machine != machine():
            return None
        if self.pid == os.getpid() and self.process == process_start(self.pid):
            return self.run in _ours
        return self.process == process_start(self.pid) != ""


class Lease:
    """The sink is this run's, until `release`. Made by `take`."""

    def __init__(self, sink: Folder, holder: Holder, ttl_s: float) -> None:
        self._raw = sink
        self._holder = holder
        self._ttl_s = ttl_s
        self._ended = threading.Event()
        self._lost: UniFaceError | None = None
        self.sink = Fenced(sink.uri, sink.storage, holder.token)
        """The folder to write through."""

    @property
    def token(self) -> int:
        """Of this run: higher than that of every run before it on this sink."""
        return self._holder.token

    def keep(self) -> None:
        """Give signs of life from now on, in a thread."""
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def check(self) -> None:
        """Raise where the sink is lost.

        Raises:
            SinkInUseError: to another run.
            StoppedError: for lack of an answer from the storage; another run may have it by now.
        """
        if self._lost:
            raise self._lost

    def fence(self) -> None:
        """Keep this run's own workers from writing: it goes on alone, under the next token.

        A worker that nobody waits for any more may still be at a chunk; what it commits would be in no count.

        Raises:
            SinkInUseError: another run has the sink, or a worker stands still in the middle of a write.
            OSError: the sink cannot be written.
        """
        before, holder = self._holder, replace(self._holder, token=self.token + 1, renewed_at=_now())
        self.sink.token = holder.token  # first, or the next sign of life finds the sink taken
        try:
            with _no_writes(self._raw, before):
                if not self._raw.create(lease_name(holder.token), holder.to_json()):
                    raise taken_over("sink.path", self._raw.uri)
        except BaseException:
            self.sink.token = before.token
            raise
        self._holder = holder

    def release(self, withdraw: bool = False) -> None:
        """The next run need not wait. Quiet where that cannot be told.

        Args:
            withdraw: the run has written nothing and given no work out: it leaves no trace.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        _ours.discard(self._holder.run)
        name = lease_name(self.token)
        with suppress(OSError, SinkInUseError):
            if withdraw:
                self.sink.delete(name)
            else:
                self.sink.write(name, replace(self._holder, renewed_at=_now(), released=True).to_json())

    def _beat(self) -> None:
        seen_s = time.monotonic()
        while not self._ended.wait(self._ttl_s / 3):
            try:
                holder = replace(self._holder, renewed_at=_now())
                self.sink.write(lease_name(holder.token), holder.to_json())
                seen_s = time.monotonic()
            except SinkInUseError as error:
                self._lost = error
                return
            except Exception as error:  # whatever a client finds to raise: a lease that is not renewed is lost
                if time.monotonic() - seen_s > self._ttl_s:
                    self._lost = StoppedError(
                        f"sink.path is {self._raw.uri!r}, which gives no answer for {self._ttl_s:g} s ({error}); once "
                        "it does, the same command goes on where this one stopped"
                    )


@contextmanager
def taken(sink: Folder, tell: Callable[[str], None], ttl_s: float = TTL_S) -> Iterator[Lease]:
    """`take`, keep and release."""
    lease = take(sink, tell, ttl_s)
    lease.keep()
    try:
        yield lease
    finally:
        lease.release()


def take(sink: Folder, tell: Callable[[str], None], ttl_s: float = TTL_S) -> Lease:
    """Take the sink for a run of this process.

    A run whose process on this machine is gone is replaced at once. Of a run on another machine only its signs of life
    can tell: it is replaced when there are none for `ttl_s`. Clocks are not compared.

    Args:
        sink: can be written to.
        tell: what there is to wait for.
        ttl_s: seconds of silence after which a run counts as dead; it gives three signs of life in that time.

    Raises:
        SinkInUseError: a run is alive on it.
        UserError: the sink can be written to, but not all of it.
    """
    try:
        return _take(sink, tell, ttl_s)
    except OSError as error:
        raise explain(error, "sink.path", sink.uri) from error


def _take(sink: Folder, tell: Callable[[str], None], ttl_s: float) -> Lease:
    holder = Holder.here()
    while True:
        token, last = _latest(sink)
        if last:
            _wait_for_its_end(sink, last, tell, ttl_s)
        holder = replace(holder, token=token + 1, since=_now(), renewed_at=_now())
        _ours.add(holder.run)
        try:
            with _no_writes(sink, last):
                won = sink.create(lease_name(holder.token), holder.to_json())
        except BaseException:
            _ours.discard(holder.run)
            raise
        if won:
            return Lease(sink, holder, ttl_s)


def latest_holder(sink: Folder) -> Holder | None:
    """Who had or has the sink last; None where nobody did."""
    return _latest(sink)[1]


def _latest(sink: Folder) -> tuple[int, Holder | None]:
    names = [entry.name for entry in sink.list("lease") if _LEASE.fullmatch(entry.name)]
    if not names:
        return 0, None
    token = max(int(name[len("lease/") : -len(".json")]) for name in names)
    try:
        text = sink.read(lease_name(token))
    except FileNotFoundError:  # withdrawn just now
        return token, None
    try:
        return token, Holder.from_json(text)
    except (ValueError, TypeError):
        return token, Holder.unknown(token, text)


def _wait_for_its_end(sink: Folder, last: Holder, tell: Callable[[str], None], ttl_s: float) -> None:
    alive = last.is_alive()
    if alive is None:
        tell(f"{_who(last)} wrote to the sink: waiting up to {ttl_s:g} s for a sign that it is alive")
        give_up_s = time.monotonic() + ttl_s
        while alive is None and time.monotonic() < give_up_s:
            time.sleep(min(_LOOK_EVERY_S, ttl_s / 10))
            token, now = _latest(sink)
            if now is None or now.released:
                return
            alive = True if (token, now.renewed_at) != (last.token, last.renewed_at) else None
    if alive:
        stopped = " (it is stopped: `kill -CONT` lets it go on)" if is_stopped(last.pid) else ""
        raise SinkInUseError(
            f"sink.path is {sink.uri!r}, to which {_who(last)} is writing since {last.since}{stopped}: wait for it "
            "or end it, or use another sink.path"
        )


def _who(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host}"


@contextmanager
def _no_writes(sink: Folder, last: Holder | None) -> Iterator[None]:
    """On a disk, no worker of the last run is between its look at the lease and its write."""
    try:
        with sink.locked("lease/lock", alone=True):
            yield
    except TimeoutError as error:
        who = f"a worker of {_who(last)}" if last else "another process"
        raise SinkInUseError(
            f"sink.path is {sink.uri!r}, where {who} stands still in the middle of a write: end it (`lsof` on "
            f"{error.filename!r} tells which), or let it go on"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
