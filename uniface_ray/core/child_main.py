"""The child's side of `child`: `python -m uniface_ray.core.child_main <pipe> <socket>...`, by file descriptor."""

import fcntl
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from uniface_ray.core.child import ANSWER, BEAT, BROKEN, RAISED, READY, Handler, as_raised
from uniface_ray.core.errors import BrokenProcessError


def main(life: int, *descriptors: int) -> None:
    """Answer payloads until the parent is gone."""
    # Who ends a run sends SIGINT to all its processes; what is under way is to be finished, and the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(life)
    pipe, *others = [Connection(one) for one in descriptors]
    try:
        factory, arguments = pickle.loads(pipe.recv_bytes())
        handle = factory(*arguments)
    except EOFError:
        return
    except Exception as error:
        _send(pipe, RAISED, as_raised(error))
        return
    for other in others:
        threading.Thread(target=_serve, args=(other, handle), daemon=True).start()
    _send(pipe, READY, b"")
    _serve(pipe, handle)


def _serve(pipe: Connection, handle: Handler) -> None:
    while True:
        try:
            payload = pipe.recv_bytes()
        except EOFError:
            return
        try:
            answer = handle(payload, lambda: pipe.send_bytes(BEAT))
        except BrokenProcessError as error:
            _send(pipe, BROKEN, str(error).encode())
            return
        except SystemExit as error:  # which would end this thread only
            os._exit(error.code if isinstance(error.code, int) else 1)
        except Exception as error:
            traceback.print_exc()  # for the worker's log: what travels has no trace
            _send(pipe, RAISED, as_raised(error))
        else:
            _send(pipe, ANSWER, answer)


def _send(pipe: Connection, kind: bytes, content: bytes) -> None:
    pipe.send_bytes(kind)
    pipe.send_bytes(content)


def _end_with_parent(life: int) -> None:
    """Die when the parent does, and with it the other end of the pipe `life`: even in C code that never returns."""
    if hasattr(fcntl, "F_SETSIG"):  # Linux: the kernel itself sends SIGKILL when the other end closes
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([life], [], [], 0)[0]:  # it has closed already
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=lambda: os.read(life, 1) or os._exit(1), daemon=True).start()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
