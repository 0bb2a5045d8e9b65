"""Manners towards web servers: how many requests at a time, how often, and when to leave one alone."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Hosts that are remembered; a table that names more has hosts that come once.
_MOST_HOSTS = 4096


@dataclass(slots=True)
class _Host:
    connections: threading.Semaphore
    lock: threading.Lock = field(default_factory=threading.Lock)
    free_at: float = 0.0


class Hosts:
    """Limits for each host, for the threads of one process.

    Args:
        connections: requests of one host at a time.
        rate: requests of one host a second; None for no limit.
    """

    def __init__(self, connections: int, rate: float | None) -> None:
        self._connections = connections
        self._interval = 1 / rate if rate else 0.0
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until the host may be asked, and hold one of its connections."""
        host = self._host(name)
        with host.connections:
            with host.lock:
                at = max(time.monotonic(), host.free_at)
                host.free_at = at + self._interval
            time.sleep(max(0.0, at - time.monotonic()))
            yield

    def pause(self, name: str, seconds: float) -> None:
        """The host asked to be left alone for so long: by all threads."""
        host = self._host(name)
        with host.lock:
            host.free_at = max(host.free_at, time.monotonic() + seconds)

    def _host(self, name: str) -> _Host:
        with self._lock:
            if name not in self._hosts and len(self._hosts) >= _MOST_HOSTS:
                self._hosts.pop(next(iter(self._hosts)))
            return self._hosts.setdefault(name, _Host(threading.Semaphore(self._connections)))
