"""What runs in the child processes of tests, and behaves as rows tell it to. Imports little: it starts often."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from uniface_ray.core.child import Beat, Handler
from uniface_ray.core.errors import BrokenProcessError, UserError


def do(what: str, beat: Beat = lambda: None) -> None:
    """Crash, hang or fail as told; other words do nothing."""
    word, _, rest = what.partition(" ")
    match word:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(9)
        case "leave":
            sys.exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(600)
        case "hang":  # PyDLL keeps the GIL: no other thread of this process runs any more
            ctypes.PyDLL(None).sleep(600)
        case "once":  # ends the first process that meets it only
            if not Path(rest).exists():
                Path(rest).write_text("")
                os._exit(1)
        case "unless":
            if Path(rest).exists():
                os._exit(1)
        case "broken":
            raise BrokenProcessError("the device failed")
        case "raise":
            raise UserError("not like this")
        case "nap":
            time.sleep(0.2)
        case "meet":  # waits until so many have come to the place
            place, count = rest.split()
            with Path(place).open("a") as file:
                file.write("x")
            while len(Path(place).read_text()) < int(count):
                time.sleep(0.01)
        case "slow":
            for _ in range(8):
                time.sleep(0.5)
                beat()


def words() -> Handler:
    """Does what the payload says and gives it back, reversed."""

    def handle(payload: bytes, beat: Beat) -> bytes:
        do(payload.decode(), beat)
        return bytes(reversed(payload))

    return handle


def bad_start(how: str) -> Handler:
    do(how)
    return words()


def rows(tells: bool, memory: int, notes: str) -> Handler:
    """Does what each `uri` says and gives the chunk back; `memory` rows at a time fit, then the system kills it."""
    import pyarrow as pa

    with Path(notes).open("a") as file:
        file.write("start\n")

    def handle(payload: bytes, beat: Beat) -> bytes:
        table = pa.ipc.open_stream(payload).read_all()
        if table.num_rows > memory:
            os.kill(os.getpid(), signal.SIGKILL)
        for uri, rejected in zip(table["uri"].to_pylist(), table["error_kind"].to_pylist(), strict=True):
            if not rejected:
                do(uri)
            if tells:
                beat()
        return payload

    return handle


def odd_replica(job: object, threads: int | None) -> Handler:
    """In place of `batch.work.replica`: does what each row's `uri` says."""
    return rows(False, 1000, os.devnull)
