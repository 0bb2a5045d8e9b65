"""Processes of this machine, by number."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def machine() -> str:
    """What two processes share that can see each other by number: the boot, and the namespace of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def process_start(pid: int) -> str:
    """When the process started; empty where there is none, or only its corpse."""
    try:
        # proc(5): the name in parentheses may hold anything; after it, state is field 3 and starttime field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def is_stopped(pid: int) -> bool:
    """Whether a signal holds the process up (SIGSTOP, ^Z, a debugger)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
    return False
