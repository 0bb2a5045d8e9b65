"""Memory of a process and of all below it, from /proc (Linux)."""

import threading
import time
from collections import defaultdict
from pathlib import Path

PROC = Path("/proc")


class Peaks:
    """Samples the memory of this process's descendants until it is left.

    Shares that processes have in common are divided among them (PSS), so sums do not count twice. Anonymous memory is
    what a process holds for itself; shared memory is Ray's object store.

    Attributes:
        driver: highest anonymous MiB of the process `pid` itself.
        workers: highest sum over all its descendants.
        shared: highest shared MiB of all together.
        series: (seconds, anonymous MiB of the process, of its descendants, how many these are), as time went by.
    """

    def __init__(self, pid: int, every_s: float = 0.5) -> None:
        self.pid = pid
        self.every_s = every_s
        self.driver = self.workers = self.shared = 0.0
        self.series: list[tuple[float, float, float, int]] = []
        self._began_s = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            below = descendants(self.pid)
            own, rest = memory(self.pid), [memory(pid) for pid in below]
            workers = sum(anonymous for anonymous, _ in rest)
            self.series.append((began - self._began_s, own[0], workers, len(rest)))
            self.driver = max(self.driver, own[0])
            self.workers = max(self.workers, workers)
            self.shared = max(self.shared, own[1] + sum(shared for _, shared in rest))
            self._end.wait(max(0.0, self.every_s - (time.monotonic() - began)))


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    children = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue  # it has ended meanwhile
            children[parent].append(int(entry.name))
    found, left = [], [pid]
    while left:
        below = children[left.pop()]
        found += below
        left += below
    return found


def memory(pid: int) -> tuple[float, float]:
    """(anonymous, shared) proportional MiB of a process; zeros once it has ended."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return values.get("Pss_Anon", 0) / 1024, values.get("Pss_Shmem", 0) / 1024
