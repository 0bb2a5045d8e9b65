"""Two workers commit the same chunk with different outcomes, step by step in any order, and die anywhere."""

import hashlib
import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uniface_ray.batch.chunk import Answered
from uniface_ray.batch.commit import Marker, commit, marker_of
from uniface_ray.batch.layout import OK, REJECTED, marker_name
from uniface_ray.batch.replay import commit_again
from uniface_ray.batch.strays import sweep
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.disk import Disk
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.storage import Folder

CHUNK, ROWS = 3, 4
SPLITS = [(0, 1, 2, 3), (0, 1), (1, 2, 3), ()]  # which rows worked


class Killed(BaseException):
    """Stands for a process that is gone at this point."""


class Turns:
    """Lets one of two threads take a step at a time, in a random order; one may die before a step of its."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.change = threading.Condition()
        self.waiting: set[int] = set()
        self.alive = {0, 1}
        self.turn: int | None = None
        self.steps_left = {0: self._life(), 1: self._life()}

    def _life(self) -> int:
        return self.draw.randrange(14) if self.draw.random() < 0.4 else 10**6

    def step(self, worker: int) -> None:
        with self.change:
            self.waiting.add(worker)
            while self.turn != worker:
                if self.turn is None and self.waiting == self.alive:
                    self.turn = self.draw.choice(sorted(self.waiting))
                    self.change.notify_all()
                else:
                    assert self.change.wait(20)
            self.turn = None
            self.waiting.discard(worker)
            self.steps_left[worker] -= 1
            if self.steps_left[worker] < 0:
                raise Killed

    def end(self, worker: int) -> None:
        with self.change:
            self.alive.discard(worker)
            self.waiting.discard(worker)
            self.change.notify_all()


class SteppedDisk(Disk):
    """What a bucket does: each request on its own is whole, and anything may come between two."""

    def __init__(self, turns: Turns, worker: int) -> None:
        self.turns, self.worker = turns, worker

    def _step(self, name: str, *given: Any) -> Any:
        self.turns.step(self.worker)
        return getattr(Disk, name)(self, *given)

    def read(self, path: str) -> bytes:
        return self._step("read", path)

    def size(self, path: str) -> int | None:
        return self._step("size", path)

    def write_over(self, path: str, data: bytes, version: str | None) -> str | None:
        return self._step("write_over", path, data, version)

    def remove(self, path: str, version: str) -> bool:
        return self._step("remove", path, version)


class SteppedSink(Fenced):
    """A sink with no locks, as in a bucket."""

    def __init__(self, sink: Fenced, turns: Turns, worker: int) -> None:
        super().__init__(sink.uri, sink.storage, sink.token)
        self.disk = SteppedDisk(turns, worker)

    @property
    def _files(self) -> Disk:
        return self.disk

    @contextmanager
    def locked(self, name: str, alone: bool = False) -> Iterator[None]:
        yield


def outcome(worked: tuple[int, ...], message: str = "gone") -> Answered:
    """A chunk's rows: those of `worked` are ok."""
    failed = [row for row in range(ROWS) if row not in worked]
    ids = {"row_id": pa.array(worked, pa.int64()), "parent_id": pa.nulls(len(worked), pa.int64())}
    bad = {
        "row_id": pa.array(failed, pa.int64()),
        "parent_id": pa.nulls(len(failed), pa.int64()),
        "error_kind": pa.array(["fetch_failed"] * len(failed), pa.string()),
        "error_message": pa.array([message] * len(failed), pa.string()),
        "attempts": pa.array([1] * len(failed), pa.int32()),
    }
    return Answered(CHUNK, pa.table(ids), pa.table(bad), {}, {})


def check_whole(sink: Fenced) -> Marker:
    """The marker names what is there, and each row is there once."""
    marker = marker_of(sink.read(marker_name(CHUNK)))
    assert marker
    rows: Counter[int] = Counter()
    for file in marker.files:
        data = sink.read(file.name)
        assert hashlib.sha256(data).hexdigest() == file.sha256, "the marker names another file"
        rows.update(pq.read_table(io.BytesIO(data))["row_id"].to_pylist())
    assert rows == Counter(range(ROWS))
    sweep(sink, [])
    names = [entry.name for folder in (OK, REJECTED) for entry in sink.list(folder)]
    assert names == [file.name for file in marker.files]
    return marker


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.batch.commit._WAIT_S", 0.0)
    monkeypatch.setattr("uniface_ray.batch.commit._TRIES", 1000)  # a coin decides who goes first, not the time
    monkeypatch.setattr("uniface_ray.core.disk.os.fsync", lambda _: None)


def race(
    put: Callable[..., tuple[Marker, bool]], sink: Fenced, turns: Turns, splits: list[tuple[int, ...]]
) -> dict[int, Marker]:
    """The markers of those of two workers that lived to have one."""
    done: dict[int, Marker] = {}

    def work(worker: int, split: tuple[int, ...]) -> None:
        with suppress(Killed):
            done[worker] = put(SteppedSink(sink, turns, worker), outcome(split, f"of {worker}"), ROWS)[0]
        turns.end(worker)

    threads = [threading.Thread(target=work, args=one) for one in enumerate(splits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("what", ["first time", "after a death", "replay"])
def test_a_marker_names_what_is_there_in_whatever_order_two_workers_write(tmp_path: Path, what: str) -> None:
    dead = 0
    for seed in range(60):
        turns = Turns(seed)
        splits = turns.draw.sample(SPLITS, 2)
        sink = Fenced(str(tmp_path / str(seed)), StorageConfig(), token=1)
        if what == "after a death":
            Folder.write(sink, f"{OK}/part-{CHUNK:08d}.parquet", b"of a run that died")
        if what == "replay":
            commit(sink, outcome(()), ROWS)
            sink.token = 2
        done = race(commit_again if what == "replay" else commit, sink, turns, splits)
        dead += 2 - len(done)
        if done:
            assert check_whole(sink) in done.values()
        resumed, _ = commit(sink, outcome(splits[0], "again"), ROWS)
        assert check_whole(sink) == resumed
        assert resumed in done.values() or not done or what == "replay"
    assert dead > 10


@pytest.mark.usefixtures("no_waiting")
def test_a_replay_that_is_repeated_after_a_death_keeps_what_the_marker_counted(tmp_path: Path) -> None:
    """Photos without faces are in no file: only markers tell of them."""
    sink = Fenced(str(tmp_path), StorageConfig(), token=1)
    faceless = {"faceless": 2, "tokens": 7}
    commit(sink, replace(outcome(()), rejected=outcome(()).rejected.slice(2), amounts=faceless), ROWS)
    sink.token = 2
    again = replace(outcome((2,)), rejected=outcome(()).rejected.slice(3), amounts={"tokens": 1})
    for writes in range(4):
        dying, left = Fenced(sink.uri, sink.storage, 2), [writes]

        def dies(*given: Any, dying: Fenced = dying, left: list[int] = left) -> str | None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return Fenced.replace(dying, *given)

        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(dying, "replace", dies)
            commit_again(dying, again, ROWS)
            raise AssertionError("it did not die")
    marker, _ = commit_again(sink, again, ROWS)
    assert (marker.ok, marker.rejected, marker.amounts) == (3, 1, {"faceless": 2, "tokens": 8})
