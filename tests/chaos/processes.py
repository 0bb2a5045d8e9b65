"""The processes of a run, and what is done to them."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.memory import descendants
from tests.chaos.schedule import Event
from tests.s3_server import S3Server
from uniface_ray.core.processes import process_start


class Processes:
    """A driver's process and all below it.

    Args:
        driver: its number.
        server: its storage; None on a disk.
        tell: of what was done.
    """

    def __init__(self, driver: int, server: S3Server | None, tell: Callable[[str], None]) -> None:
        self.driver = driver
        self._server = server
        self._tell = tell
        self._seen: dict[int, str] = {}

    def look(self) -> None:
        """Remember who is there, to find them once their parents are gone."""
        for pid in descendants(self.driver):
            self._seen.setdefault(pid, process_start(pid))

    def left(self) -> list[int]:
        """Those seen that are still there."""
        return [pid for pid, start in self._seen.items() if start and process_start(pid) == start]

    def strike(self, event: Event) -> bool:
        """Do what an event says; False where there is no such process (yet)."""
        what, _, then = event.action.partition(", ")
        verb, _, whom = what.partition(" ")
        if whom == "server":
            assert self._server
            self._strike_server(self._server, verb, event.seconds)
        elif what == "kill all":
            self.look()
            for pid in (self.driver, *self.left()):
                _send(pid, signal.SIGKILL)
        elif what == "ask to end":
            _send(self.driver, signal.SIGTERM)
        else:
            found = [self.driver] if whom == "driver" else self._workers(whom)
            if not found:
                return False
            pid = found[int(event.pick * len(found))]
            _send(pid, signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
            if verb == "stop":
                threading.Timer(event.seconds, _continue, (pid, process_start(pid))).start()
        if then:
            self.look()
            _send(self.driver, signal.SIGKILL)
        self._tell(event.action)
        return True

    def end(self) -> None:
        """Nobody is left behind, stopped ones included."""
        for pid in (self.driver, *self.left()):
            _send(pid, signal.SIGKILL)

    def _workers(self, whom: str) -> list[int]:
        """The children that answer or decode, or the Ray processes above them, in a stable order."""
        below = {pid: _command(pid) for pid in sorted(descendants(self.driver))}
        ours = [pid for pid, command in below.items() if "uniface_ray.core.child_main" in command]
        if whom == "worker":
            return [pid for pid, command in below.items() if command.startswith("ray::Map")]
        above = {pid: below.get(_parent(pid), "") for pid in ours}
        return [pid for pid in ours if ("_ReplicaActor" in above[pid]) == (whom == "replica")]

    def _strike_server(self, server: S3Server, verb: str, seconds: float) -> None:
        if verb == "kill":
            server.kill()
            threading.Timer(seconds, server.start_again).start()
        else:
            _send(server.pid, signal.SIGSTOP)
            threading.Timer(seconds, _continue, (server.pid, process_start(server.pid))).start()


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _continue(pid: int, start: str) -> None:
    if process_start(pid) == start:
        _send(pid, signal.SIGCONT)


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _parent(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
