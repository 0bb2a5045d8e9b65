"""One run on a sink at a time: who takes it, who has to wait, who has lost it."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import SinkInUseError, StoppedError, UserError
from uniface_ray.core.fenced import Fenced, lease_name
from uniface_ray.core.lease import Holder, Lease, latest_holder, take, taken
from uniface_ray.core.processes import process_start
from uniface_ray.core.storage import Folder

TTL_S = 0.6


def nobody(text: str) -> None:
    raise AssertionError(f"there is nothing to wait for: {text}")


def held_by(sink: Folder, holder: Holder) -> None:
    sink.write(lease_name(holder.token), holder.to_json())


@contextmanager
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """Some process of this machine."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def holder_in(child: "subprocess.Popen[bytes]") -> Holder:
    return replace(Holder.here(), token=1, pid=child.pid, process=process_start(child.pid))


def test_one_run_after_the_other(place: Folder) -> None:
    with taken(place, nobody) as first:
        first.sink.write("data/a", b"1")
        assert first.token == 1
    with taken(place, nobody) as second:
        assert second.token == 2
    assert place.read("data/a") == b"1"
    holder = latest_holder(place)
    assert holder
    assert (holder.token, holder.released, holder.is_alive()) == (2, True, False)


def test_a_live_run_is_named(place: Folder) -> None:
    with taken(place, nobody), pytest.raises(SinkInUseError, match=rf"process {os.getpid()} on .* is writing since 20"):
        take(place, nobody)


def test_a_run_of_another_live_process_is_left_alone_and_a_dead_one_replaced_at_once(place: Folder) -> None:
    with process() as child:
        holder = holder_in(child)
        held_by(place, holder)
        with pytest.raises(SinkInUseError, match=str(child.pid)):
            take(place, nobody)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        with pytest.raises(SinkInUseError, match="it is stopped"):
            take(place, nobody)
    assert take(place, nobody).token == 2


def test_another_process_of_the_same_number_is_not_the_run(place: Folder) -> None:
    with process() as child:
        held_by(place, replace(holder_in(child), process="1"))
        assert take(place, nobody).token == 2


def test_a_run_of_this_process_that_ended_without_a_word_is_replaced(place: Folder) -> None:
    held_by(place, replace(Holder.here(), token=1))
    assert take(place, nobody).token == 2


def test_another_machines_run_is_replaced_after_its_silence_only(place: Folder) -> None:
    elsewhere = replace(Holder.here(), token=1, machine="elsewhere", host="node-7", renewed_at="2020-01-01T00:00:00Z")
    held_by(place, elsewhere)
    told: list[str] = []
    assert take(place, told.append, TTL_S).token == 2
    assert "node-7" in told[0]

    alive = replace(elsewhere, token=3)
    held_by(place, alive)
    threading.Timer(TTL_S / 3, held_by, (place, replace(alive, renewed_at="2020-01-01T00:00:09Z"))).start()
    with pytest.raises(SinkInUseError, match="node-7"):
        take(place, told.append, TTL_S)


def test_of_many_that_try_at_once_one_gets_it(place: Folder) -> None:
    barrier = threading.Barrier(4)

    def attempt(_: int) -> int:
        barrier.wait()
        try:
            return take(Folder(place.uri, place.storage), nobody).token
        except SinkInUseError:
            return 0

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [0, 0, 0, 1]


def test_who_lost_the_sink_writes_nothing_any_more(place: Folder) -> None:
    late = Fenced(place.uri, place.storage, 1)
    held_by(place, replace(Holder.here(), token=1))
    late.write("data/a", b"early")
    new = take(place, nobody)
    for write in (late.write, late.create):
        with pytest.raises(SinkInUseError, match="another run has taken over"):
            write("data/b", b"late")
    with pytest.raises(SinkInUseError):
        late.delete("data/a")
    new.sink.write("data/a", b"new")
    assert (place.read("data/a"), place.exists("data/b")) == (b"new", False)


def test_a_write_that_stood_still_after_its_look_does_not_replace_what_came_since(
    place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket nothing can keep the new run from coming between look and write; so the write itself must notice."""
    if place.is_local:
        pytest.skip("on a disk, who takes over waits: see the next test")
    late, looks = Fenced(place.uri, place.storage, 1), 0

    def look_and_stand_still() -> None:
        nonlocal looks
        Fenced.check(late)
        if not looks:
            new = take(place, nobody)
            new.sink.write("data/a", b"new")
        looks += 1

    held_by(place, replace(Holder.here(), token=1))
    monkeypatch.setattr(late, "check", look_and_stand_still)
    with pytest.raises(SinkInUseError):
        late.write("data/a", b"late")
    assert place.read("data/a") == b"new"


def test_on_a_disk_who_takes_over_waits_for_a_write_that_has_begun(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    held_by(sink, replace(Holder.here(), token=1))
    late = Fenced(sink.uri, sink.storage, 1)
    monkeypatch.setattr("uniface_ray.core.storage._LOCK_PATIENCE_S", 0.2)
    with late.locked("lease/lock"), pytest.raises(SinkInUseError, match="stands still in the middle of a write"):
        take(sink, nobody)
    assert take(sink, nobody).token == 2


def wait_until_lost(lease: Lease) -> None:
    deadline = threading.Event()
    for _ in range(400):
        lease.check()
        deadline.wait(0.05)


def test_a_run_notices_that_it_lost_the_sink(place: Folder) -> None:
    with taken(place, nobody, TTL_S) as lease:
        held_by(place, replace(Holder.here(), token=2))
        with pytest.raises(SinkInUseError):
            wait_until_lost(lease)


def test_a_storage_that_gives_no_answer_ends_the_run(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no answer")

    with taken(place, nobody, TTL_S) as lease:
        monkeypatch.setattr(lease.sink, "write", fails)
        with pytest.raises(StoppedError, match="gives no answer"):
            wait_until_lost(lease)


def test_a_sink_that_can_only_be_listed_is_told(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Folder, "create", refused)
    with pytest.raises(UserError, match=r"sink\.path is"), taken(place, nobody, TTL_S):
        pass


def test_signs_of_life_keep_the_sink(place: Folder) -> None:
    with taken(place, nobody, TTL_S) as lease:
        before = latest_holder(place)
        threading.Event().wait(TTL_S)
        after = latest_holder(place)
        assert before
        assert after
        assert after.renewed_at > before.renewed_at
        lease.check()


def test_a_lease_that_cannot_be_read_is_somebodys(place: Folder) -> None:
    told: list[str] = []
    place.write(lease_name(1), b"of a newer version")
    with taken(place, told.append, TTL_S) as lease:
        assert lease.token == 2
    assert "waiting up to 0.6 s" in told[0]


def test_a_lease_with_more_fields_can_be_read(place: Folder) -> None:
    values = json.loads(replace(Holder.here(), token=1, released=True).to_json())
    place.write(lease_name(1), json.dumps({**values, "colour": "blue"}).encode())
    with taken(place, nobody) as lease:
        assert lease.token == 2


def test_whatever_goes_wrong_with_a_sign_of_life_loses_the_lease_in_the_end(
    place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(place, nobody, TTL_S)

    def odd(*_: object) -> None:
        raise RuntimeError("an odd error of a client")

    monkeypatch.setattr(lease.sink, "write", odd)
    lease.keep()
    deadline = time.monotonic() + 20
    while lease._lost is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(StoppedError, match="an odd error of a client"):
        lease.check()


def test_a_run_fences_off_its_own_workers(place: Folder) -> None:
    lease = take(place, nobody, TTL_S)
    lease.keep()
    worker = Fenced(place.uri, place.storage, lease.token)
    worker.write("data/a", b"1")
    lease.fence()
    with pytest.raises(SinkInUseError):
        worker.write("data/a", b"2")
    lease.sink.write("data/a", b"3")
    time.sleep(TTL_S)
    lease.check()
    lease.release()
    with taken(place, nobody) as later:
        assert later.token == lease.token + 1 == 3


def test_a_run_that_wrote_nothing_leaves_nothing(place: Folder) -> None:
    take(place, nobody).release(withdraw=True)
    assert [entry.name for entry in place.list("lease") if not entry.name.startswith("lease/lock")] == []
