"""Memory of this machine, or of the container this process is in."""

from contextlib import suppress
from pathlib import Path

# proc(5), and cgroups(7) of version 2.
_SYSTEM, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_bytes(system: Path = _SYSTEM, cgroup: Path = _CGROUP) -> int | None:
    """What programs could take now without swapping; None where the system does not tell."""
    free: list[int] = []
    with suppress(OSError):
        lines = system.read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    with suppress(OSError, ValueError):  # `max` where there is no limit
        free.append(int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return min(free, default=None)


__all__ = ["available_bytes"]
