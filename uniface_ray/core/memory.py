"""Memory of this machine."""

from pathlib import Path


def available_bytes() -> int | None:
    """What programs could take now without swapping (proc(5), MemAvailable); None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


__all__ = ["available_bytes"]
