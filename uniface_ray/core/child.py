"""A child process that does what may crash or hang, so that its parent does neither.

The parent gives a factory (importable, as pickle needs) and its arguments; the child calls it once, and what it returns
for every payload: `factory(*arguments)(payload, beat) -> bytes`. `beat()` is a sign of progress.
"""

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from uniface_ray.core.errors import UniFaceError

Beat = Callable[[], None]
Handler = Callable[[Any, Beat], bytes]

READY, BEAT, ANSWER, RAISED, BROKEN = b"ready", b"beat", b"answer", b"raised", b"broken"


class EndedError(Exception):
    """The child ended in the middle of a call.

    Attributes:
        late: it showed no progress for too long, and was killed.
        out_of_memory: the system killed it for want of memory.
        beats: signs of progress since the call began.
    """

    def __init__(self, message: str, late: bool = False, out_of_memory: bool = False, beats: int = 0) -> None:
        super().__init__(message)
        self.late = late
        self.out_of_memory = out_of_memory
        self.beats = beats


class Child:
    """One process, ready for `call` when made. Calls come from any thread, `calls` of them at a time.

    Args:
        factory: see the module. What it returns is called from as many threads of the child as there are calls.
        arguments: of it.
        start_s: seconds it may take to get ready.
        calls: at a time; whoever comes when all are taken waits.

    Raises:
        EndedError: it died while it got ready, or did not in time.
        Exception: what the factory raised.
    """

    def __init__(
        self, factory: Callable[..., Handler], arguments: tuple[Any, ...], start_s: float, calls: int = 1
    ) -> None:
        self._oom_kills = _oom_kills()
        pairs = [socket.socketpair() for _ in range(calls)]  # a pipe for each call at a time
        life, self._life = os.pipe()  # never written to: its end is the parent's
        passed = [life, *(theirs.fileno() for _, theirs in pairs)]
        command = [sys.executable, "-m", "uniface_ray.core.child_main", *map(str, passed)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=passed, env={**os.environ, "PYTHONPATH": path}
            )
        finally:
            for _, theirs in pairs:
                theirs.close()
            os.close(life)
        self.pid = self._process.pid
        self._closed = False
        self._closing = threading.Lock()
        self._free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        pipes = [Connection(ours.detach()) for ours, _ in pairs]
        for pipe in pipes[1:]:
            self._free.put(pipe)
        try:
            self._exchange(pipes[0], pickle.dumps((factory, arguments)), start_s)
        except BaseException:
            self.close()
            raise

    def call(self, payload: Any, silence_s: float) -> bytes:
        """What the child makes of `payload` (bytes-like).

        Args:
            payload: for the handler.
            silence_s: seconds without a sign of progress after which it is killed.

        Raises:
            EndedError: it died or was killed; this object is of no more use.
            Exception: what the handler raised; the child goes on.
        """
        return self._exchange(self._free.get(), payload, silence_s)

    def close(self) -> None:
        """End the child, whatever it does; calls under way end with it."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._process.kill()
                self._process.wait()
                os.close(self._life)

    def _exchange(self, pipe: Connection, payload: Any, silence_s: float) -> bytes:
        beats, watch = 0, _Watch(self._process, silence_s)
        try:
            pipe.send_bytes(payload)
            while (kind := pipe.recv_bytes()) == BEAT:
                beats += 1
                watch.again()
            content = pipe.recv_bytes()
        except (EOFError, OSError):
            watch.stop()
            raise self._ended(watch.barked, silence_s, beats) from None
        except BaseException:  # a signal, a Ray cancellation: nobody knows what the next answer would belong to
            watch.stop()
            self.close()
            raise
        finally:
            self._free.put(pipe)
        watch.stop()
        if kind == BROKEN:
            self.close()
            raise EndedError(content.decode(), beats=beats)
        if kind == RAISED:
            raise pickle.loads(content)
        return content

    def _ended(self, late: bool, silence_s: float, beats: int) -> EndedError:
        with suppress(subprocess.TimeoutExpired):  # its pipe closes a moment before it has an exit code
            self._process.wait(5)
        self.close()
        if late:
            return EndedError(f"no progress for {silence_s:g} s", late=True, beats=beats)
        code = self._process.returncode
        if code >= 0:
            return EndedError(f"the process exited with code {code}", beats=beats)
        starved = code == -signal.SIGKILL and _oom_kills() > self._oom_kills
        reason = " for want of memory" if starved else ""
        return EndedError(
            f"the process was killed by {signal.Signals(-code).name}{reason}", out_of_memory=starved, beats=beats
        )


class _Watch:
    """Kills a process after a silence: that ends every read and write its parent waits in."""

    def __init__(self, process: "subprocess.Popen[bytes]", silence_s: float) -> None:
        self._process = process
        self._silence_s = silence_s
        self._news = threading.Condition()
        self._beats = 0
        self._stopped = False
        self.barked = False
        threading.Thread(target=self._wait, name="watch", daemon=True).start()

    def again(self) -> None:
        """The silence begins anew."""
        self._beats += 1

    def stop(self) -> None:
        with self._news:
            self._stopped = True
            self._news.notify()

    def _wait(self) -> None:
        with self._news:
            while not self._stopped:
                seen = self._beats
                self._news.wait(self._silence_s)
                if not self._stopped and seen == self._beats:
                    self.barked = True
                    self._process.kill()
                    return


def _oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, since it started (proc(5), vmstat)."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def as_raised(error: BaseException) -> bytes:
    """The error for the parent; what pickle cannot carry goes as its text."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return pickle.dumps(UniFaceError(f"{type(error).__name__}: {error}"))
    return data
