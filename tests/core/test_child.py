"""A child process that crashes, hangs and fails, as its parent sees it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.odd_worker import bad_start, words
from uniface_ray.core.child import Child, EndedError
from uniface_ray.core.errors import UserError


@pytest.fixture
def child() -> Iterator[Child]:
    one = Child(words, (), 60)
    yield one
    one.close()


def test_it_answers(child: Child) -> None:
    assert child.call(b"abc", 60) == b"cba"
    assert child.call(memoryview(b"x" * 5_000_000), 60) == b"x" * 5_000_000
    assert child.call(b"", 60) == b""


def test_an_error_in_it_comes_out_and_ends_nothing(child: Child) -> None:
    with pytest.raises(UserError, match="not like this"):
        child.call(b"raise", 60)
    assert child.call(b"abc", 60) == b"cba"


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (b"segfault", "SIGSEGV"),
        (b"kill", "SIGKILL"),
        (b"exit", "code 9"),
        (b"leave", "code 3"),
        (b"broken", "the device failed"),
    ],
)
def test_its_end_is_told(child: Child, what: bytes, told: str) -> None:
    with pytest.raises(EndedError, match=told) as caught:
        child.call(what, 60)
    assert not caught.value.late
    assert not Path(f"/proc/{child.pid}").exists()


def test_several_calls_at_a_time(tmp_path: Path) -> None:
    child = Child(words, (), 60, calls=3)
    with ThreadPoolExecutor(6) as pool:
        meeting = f"meet {tmp_path / 'place'} 3".encode()
        assert list(pool.map(lambda _: child.call(meeting, 60), range(3))) == [meeting[::-1]] * 3
        assert list(pool.map(lambda one: child.call(bytes([one]), 60), b"abcdef")) == [
            bytes([one]) for one in b"abcdef"
        ]
        ends = [pool.submit(child.call, what, 60) for what in (b"sleep", b"sleep", b"leave")]
        told = [str(one.exception()) for one in ends]
    assert told == ["the process exited with code 3"] * 3
    with pytest.raises(EndedError):
        child.call(b"abc", 60)
    child.close()


@pytest.mark.parametrize("what", [b"sleep", b"hang"])
def test_silence_is_its_end(child: Child, what: bytes) -> None:
    with pytest.raises(EndedError, match=r"no progress for 0\.5 s") as caught:
        child.call(what, 0.5)
    assert caught.value.late


def test_progress_is_no_silence(child: Child) -> None:
    assert child.call(b"slow", 3) == b"wols"


def test_one_that_is_stopped_does_not_stop_its_parent(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(EndedError):
        child.call(b"x" * 5_000_000, 0.5)  # more than the pipe takes: the parent waits in its write


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [("raise", UserError, "not like this"), ("kill", EndedError, "SIGKILL"), ("sleep", EndedError, "no progress")],
)
def test_a_start_that_fails(how: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        Child(bad_start, (how,), 20 if how != "sleep" else 2)


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() or time.sleep(0.05) for _ in range(400))


@pytest.mark.parametrize("what", ["idle", "hang"])
def test_it_does_not_outlive_its_parent(what: str) -> None:
    """Whatever it does, and however the parent ends."""
    program = f"""
import threading, time
from tests.odd_worker import words
from uniface_ray.core.child import Child
child = Child(words, (), 60)
print(child.pid, flush=True)
if {what!r} == "hang":
    threading.Thread(target=child.call, args=(b"hang", 600), daemon=True).start()
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    assert eventually(
        lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    )
