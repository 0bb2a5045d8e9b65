"""The driver's loop and the end of a run, without Ray."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.follow import Course, follow
from uniface_ray.batch.monitor import Monitor
from uniface_ray.batch.tally import Tally
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.interrupts import Asked, InterruptedRunError, interrupts
from uniface_ray.core.lease import taken
from uniface_ray.core.storage import Folder
from uniface_ray.core.view import View


def marker(chunk: int) -> Marker:
    return Marker(chunk, 5, 4, 1, 4, {"not_found": 1}, [], {"read": 1.0}, 1, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path), StorageConfig())


def run(markers: Iterator[Marker], workers: Monitor, course: Course, sink: Folder, asked: Asked) -> None:
    with taken(sink, print) as lease:
        follow(markers, workers, course, View(Console(quiet=True), 1.0), lease, asked, every_s=0.1)


def test_markers_add_up(sink: Folder) -> None:
    course = Course(Tally(input=50))
    run(iter([marker(0), marker(1), marker(1)]), Monitor(), course, sink, Asked())
    tally = course.tally
    assert tally.counts() == {"input": 50, "ok": 8, "rejected": 2, "pending": 40, "rows_out": 8}
    assert tally.rejects_by_kind == {"not_found": 2}
    assert tally.seconds == {"read": 2.0}


def test_an_error_of_ours_comes_out_of_whatever_wraps_it(sink: Folder) -> None:
    def failing() -> Iterator[Marker]:
        yield marker(0)
        try:
            raise StoppedError("the bucket is gone")
        except StoppedError as error:
            raise RuntimeError("a worker failed") from error

    course = Course(Tally(input=50))
    with pytest.raises(StoppedError, match="the bucket is gone"):
        run(failing(), Monitor(), course, sink, Asked())
    assert course.tally.done == 5


def test_who_asks_to_end_gets_what_is_under_way_and_no_more(sink: Folder) -> None:
    workers = Monitor()
    asked = Asked()
    begun: list[int] = []

    def endless() -> Iterator[Marker]:
        for chunk in range(10**6):
            while not workers.begin("replica", chunk):
                time.sleep(0.01)
            begun.append(chunk)
            time.sleep(0.05)
            workers.committed(chunk)
            yield marker(chunk)

    threading.Timer(0.5, lambda: setattr(asked, "number", signal.SIGINT)).start()
    course = Course(Tally(input=10**7))
    run(endless(), workers, course, sink, asked)
    assert course.tally.done == 5 * len(begun) > 0
    assert sink.exists("progress.json")


def test_a_signal_is_kept_for_the_patient_and_ends_the_rest() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as asked:
        asked.patient = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.number == signal.SIGTERM
        with pytest.raises(InterruptedRunError) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.exit_code == 143
    with interrupts() as asked, pytest.raises(InterruptedRunError) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_replica_that_is_not_heard_of_is_no_longer_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("uniface_ray.batch.monitor.time.monotonic", lambda: now_s)
    monitor = Monitor()
    for replica in ("stays", "scaled down"):
        monitor.ready(replica)
    assert monitor.begin("scaled down", 7)
    assert monitor.snapshot() == (1, 1, 2)
    for _ in range(5):
        now_s += 5
        monitor.lives("stays")
    assert monitor.snapshot() == (1, 0, 1)
