"""Chunks with rows that end the process which works on them, without Ray."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from tests.odd_worker import bad_start
from tests.odd_worker import rows as odd_rows
from uniface_ray.batch.chunk import Chunk, pack_rows, unpack_rows
from uniface_ray.batch.supervisor import Supervisor
from uniface_ray.core.child import Child
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.records import RejectKind, Row, RowRef

NONE = pa.schema([])


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture(params=[True, False], ids=["tells", "silent"])
def supervisor(request: pytest.FixtureRequest, notes: Path) -> Iterator[Supervisor]:
    one = Supervisor("decode", odd_rows, (request.param, 1000, str(notes)), 60.0, tells=request.param)
    yield one
    one.close()


def chunk_of(uris: list[str]) -> bytes:
    return pack_rows(Chunk(7, [Row(RowRef(i, uri)) for i, uri in enumerate(uris)], {"read": 1.0}), NONE, NONE)


def outcome(supervisor: Supervisor, uris: list[str]) -> list[Row]:
    """The rows, after it was checked that none is missing, doubled or moved."""
    answer = unpack_rows(supervisor.answer(chunk_of(uris)), 4)
    assert answer.number == 7
    assert [(row.ref.row_id, row.ref.uri) for row in answer.rows] == list(enumerate(uris))
    return answer.rows


def test_nothing_happens(supervisor: Supervisor, notes: Path) -> None:
    for _ in range(3):
        assert not any(row.reject for row in outcome(supervisor, ["fine"] * 9))
    assert notes.read_text() == "start\n"


@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [
        ("segfault", RejectKind.CRASHED, "SIGSEGV"),
        ("exit", RejectKind.CRASHED, "code 9"),
        ("kill", RejectKind.CRASHED, "SIGKILL"),
        ("hang", RejectKind.TIMEOUT, "no progress for 3 s"),
    ],
)
def test_a_row_that_ends_the_process_is_found_and_costs_no_other(
    supervisor: Supervisor, what: str, kind: RejectKind, told: str
) -> None:
    outcome(supervisor, ["fine"])
    supervisor.timeout_s = 3.0 if what == "hang" else 60.0
    rows = outcome(supervisor, ["fine", "fine", what, "fine"])
    assert [row.ref.row_id for row in rows if row.reject] == [2]
    reject = rows[2].reject
    assert reject
    assert (reject.kind, reject.stage) == (kind, "decode")
    assert told in reject.message
    assert reject.attempts >= 2


def test_several_of_them(supervisor: Supervisor) -> None:
    rows = outcome(supervisor, ["fine", "segfault", "exit", "fine", "fine", "kill", "fine", "segfault"])
    assert [row.ref.row_id for row in rows if row.reject] == [1, 2, 5, 7]


def test_a_process_that_ends_by_chance_costs_no_row(supervisor: Supervisor, tmp_path: Path) -> None:
    rows = outcome(supervisor, ["fine"] * 3 + [f"once {tmp_path / 'mark'}"] + ["fine"])
    assert not any(row.reject for row in rows)
    assert not any(row.reject for row in outcome(supervisor, [f"once {tmp_path / 'another'}"]))


def test_a_stage_that_tells_of_its_rows_restarts_twice_for_one(notes: Path) -> None:
    supervisor = Supervisor("decode", odd_rows, (True, 1000, str(notes)), 60.0, tells=True)
    outcome(supervisor, ["fine"] * 50 + ["segfault"] + ["fine"] * 13)
    assert notes.read_text().count("start") == 3
    supervisor.close()


def test_an_error_of_the_stage_comes_out(supervisor: Supervisor) -> None:
    with pytest.raises(UserError, match="not like this"):
        outcome(supervisor, ["fine", "raise"])
    outcome(supervisor, ["fine"])


def test_a_process_that_no_row_can_get_past_ends_the_run(supervisor: Supervisor) -> None:
    with pytest.raises(UniFaceError, match=r"so it is not the rows: .*SIGSEGV"):
        supervisor.answer(chunk_of(["segfault"] * 16))


def test_a_process_that_cannot_start_ends_the_run() -> None:
    with pytest.raises(UniFaceError, match=r"cannot start, 3 times in a row: .*code 9"):
        Supervisor("engine", bad_start, ("exit",), 60.0).start()


def test_the_size_that_fits_into_memory_is_remembered(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter(range(100))  # the kernel counts one more at every look
    monkeypatch.setattr("uniface_ray.core.child._oom_kills", lambda: next(kills))
    supervisor = Supervisor("engine", odd_rows, (False, 4, str(notes)), 30.0)
    assert not any(row.reject for row in outcome(supervisor, ["fine"] * 16))
    assert supervisor.most_rows == 4
    starts = notes.read_text().count("start")
    assert not any(row.reject for row in outcome(supervisor, ["fine"] * 16))
    assert notes.read_text().count("start") == starts
    supervisor.close()


def test_after_a_hang_halves_get_no_more_than_they_need(notes: Path) -> None:
    supervisor = Supervisor("engine", odd_rows, (False, 1000, str(notes)), 60.0)
    assert supervisor._patience_s() == 60
    outcome(supervisor, ["fine"] * 4)
    assert supervisor._patience_s() < 60
    supervisor.close()


def test_a_long_stretch_of_bad_rows_is_the_rows_where_a_good_one_still_works(notes: Path) -> None:
    supervisor = Supervisor("decode", odd_rows, (True, 1000, str(notes)), 60.0, tells=True)
    outcome(supervisor, ["fine"])
    rows = outcome(supervisor, ["exit"] * 11 + ["fine"])
    assert [row.ref.row_id for row in rows if row.reject] == list(range(11))
    supervisor.close()


def test_a_process_that_fails_with_good_rows_too_ends_the_run(notes: Path, tmp_path: Path) -> None:
    """As a GPU that has fallen off its bus: what worked once does no more."""
    supervisor = Supervisor("decode", odd_rows, (True, 1000, str(notes)), 60.0, tells=True)
    outcome(supervisor, [f"unless {tmp_path / 'fallen off'}", "fine"])
    (tmp_path / "fallen off").touch()
    with pytest.raises(UniFaceError, match="ended with each of 10 rows one after the other, so it is not the rows"):
        supervisor.answer(chunk_of(["exit"] * 10))


def test_a_rejected_row_gets_through_though_the_process_is_killed_meanwhile(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: it is started again. Each time: the error is one that ends the run with its reason."""
    outcome(supervisor, ["fine"])
    call, kills = Child.call, [1]

    def killed_at_rejects(child: Child, payload: bytes, silence_s: float) -> bytes:
        if kills[0] and unpack_rows(payload, 4).rows[0].reject:
            kills[0] -= 1
            os.kill(child.pid, signal.SIGKILL)
        return call(child, payload, silence_s)

    monkeypatch.setattr(Child, "call", killed_at_rejects)
    assert [row.ref.row_id for row in outcome(supervisor, ["exit"]) if row.reject] == [0]
    kills[0] = 100
    with pytest.raises(UniFaceError, match="ends whatever it does"):
        supervisor.answer(chunk_of(["exit"]))


def test_a_process_that_has_nothing_to_do_ends_until_it_has(notes: Path) -> None:
    supervisor = Supervisor("decode", odd_rows, (True, 1000, str(notes)), 60.0, idle_s=0.2)
    outcome(supervisor, ["fine", "nap", "nap"])
    deadline_s = time.monotonic() + 60
    while supervisor._child:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    outcome(supervisor, ["fine"])
    assert notes.read_text().count("start") == 2
    supervisor.close()


@pytest.fixture
def crowd(notes: Path) -> Iterator[Supervisor]:
    one = Supervisor("engine", odd_rows, (False, 1000, str(notes)), 60.0, calls=4)
    yield one
    one.close()


def at_once(supervisor: Supervisor, chunks: list[list[str]]) -> list[list[Row]]:
    with ThreadPoolExecutor(len(chunks)) as pool:
        return list(pool.map(lambda uris: outcome(supervisor, uris), chunks))


def test_several_chunks_are_in_the_process_at_a_time(crowd: Supervisor, tmp_path: Path) -> None:
    """Each waits there for all others."""
    meeting = f"meet {tmp_path / 'place'} 4"
    answers = at_once(crowd, [["fine", meeting] for _ in range(4)])
    assert not any(row.reject for rows in answers for row in rows)


@pytest.mark.parametrize("what", ["segfault", "exit", "leave"])
def test_a_row_that_ends_the_process_of_several_chunks_costs_no_other(crowd: Supervisor, what: str) -> None:
    chunks = [["fine", "nap", "fine"] for _ in range(6)]
    chunks[2] = ["nap", "fine", what, "fine"]
    answers = at_once(crowd, chunks)
    rejects = [(chunk, row.ref.row_id) for chunk, rows in enumerate(answers) for row in rows if row.reject]
    assert rejects == [(2, 2)]


def test_a_process_of_several_chunks_that_is_killed_costs_no_row(crowd: Supervisor, tmp_path: Path) -> None:
    chunks = [["nap", "fine"] for _ in range(5)] + [["nap", f"once {tmp_path / 'mark'}"]]
    assert not any(row.reject for rows in at_once(crowd, chunks) for row in rows)
