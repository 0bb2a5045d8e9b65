"""What becomes of a batch whose runs end before their time: nothing that is done is lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batch.plain_run import PlainRun
from tests.serve.conftest import Configure
from tests.serve.test_batch_lines import CHAT, chat_body, line
from tests.serve.test_batches import PlainWork
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.serve.batch_folder import MOST_ATTEMPTS, BatchFolder
from uniface_ray.serve.batch_work import Work
from uniface_ray.serve.batches import Batches, BatchRequest
from uniface_ray.serve.files import store_in
from uniface_ray.serve.store import Store

Begin = Callable[..., tuple[BatchFolder, Store]]
DIES = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def begin(configure: Configure, tmp_path: Path) -> Begin:
    """A batch with so many good lines of each run, that nobody works on yet, and its owner's files."""

    def call(*lines: int) -> tuple[BatchFolder, Store]:
        config, folder = configure(f"files.path={tmp_path}"), Folder(str(tmp_path), StorageConfig())
        batches = Batches(config, folder, {"random": 32}, lambda batch, attempt: None)
        store = store_in(config, "ann")
        most = [number + 2 for number, count in enumerate(lines) for _ in range(count)]
        bodies = [chat_body(model="random", max_tokens=number) for number in most]
        content = b"\n".join(line(f"{n}", body) for n, body in enumerate(bodies))
        file = store.put([content], "in.jsonl", "batch")
        asked = BatchRequest(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        return batches.find("ann", batches.create("ann", asked)["id"]), store

    return call


@pytest.fixture
def engine(folder: Path) -> UniFaceEngine:
    return UniFaceEngine(folder, "cpu", "float32", 4, 1)


class EndingWork(Work):
    """Its run does what a line of Python says."""

    code = ""

    def words(self, home: str, model: str, typed: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", self.code]


class CutWork(PlainWork):
    """Its run does the first chunk."""

    def _run_pipeline(self, home: str, model: str, typed: tuple[str, ...]) -> bool:
        _, _, _, command, source, _, sink, *rest = self.words(home, model, typed)
        path, folder = Path(source.partition("=")[2]), Folder(sink.partition("=")[2], StorageConfig())
        run = PlainRun(path, folder, *rest, engine=self._engine, command=command)
        run.finish("interrupted", chunks=[0])
        return False


class LostWork(PlainWork):
    """Gone after it has written its output, before it can say so."""

    def _tell(self, status: str, **facts: Any) -> None:
        if status == "completed":
            raise OSError("gone")
        super()._tell(status, **facts)


def attempt(work: type[PlainWork], batch: BatchFolder, number: int, engine: UniFaceEngine) -> dict[str, Any]:
    assert batch.begin(number)
    work(batch, engine, number).work()
    return batch.state()


def lines_of(store: Store, number: str | None) -> dict[str, Any]:
    found = [json.loads(one) for one in store.lines(number, 10**6)] if number else []
    return {one["custom_id"]: one for one in found}


@pytest.mark.parametrize("code", ["exit(1)", "exit(2)", "exit(3)", "exit(4)", "exit(143)", DIES])
def test_a_run_that_can_be_gone_on_with_is(begin: Begin, engine: UniFaceEngine, code: str) -> None:
    batch, store = begin(7)
    assert attempt(CutWork, batch, 1, engine)["status"] == "in_progress"
    assert batch.begin(2)
    again = EndingWork(batch, 2)
    again.code = code
    again.work()
    assert batch.state()["status"] == "in_progress"
    done = attempt(PlainWork, batch, 3, engine)
    assert (done["status"], done["error_file_id"]) == ("completed", None)
    assert done["request_counts"] == {"total": 7, "completed": 7, "failed": 0}
    assert lines_of(store, done["output_file_id"]).keys() == {f"{n}" for n in range(7)}


def test_in_the_end_what_is_done_is_given_out(begin: Begin, engine: UniFaceEngine) -> None:
    batch, store = begin(7)
    for number in range(1, MOST_ATTEMPTS + 1):
        assert attempt(CutWork, batch, number, engine)["status"] == "in_progress"
    done = attempt(CutWork, batch, MOST_ATTEMPTS + 1, engine)
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 7, "completed": 5, "failed": 2}
    answers, undone = (lines_of(store, done[name]) for name in ("output_file_id", "error_file_id"))
    assert answers.keys() | undone.keys() == {f"{n}" for n in range(7)}
    assert {one["error"]["code"] for one in undone.values()} == {"run_failed"}


class FailingWork(PlainWork):
    """Its first run always fails."""

    def _run_pipeline(self, home: str, model: str, typed: tuple[str, ...]) -> bool:
        return not home.endswith("/000") and super()._run_pipeline(home, model, typed)


def test_a_run_that_always_fails_fails_its_lines_only(begin: Begin, engine: UniFaceEngine) -> None:
    batch, store = begin(2, 3)
    assert attempt(FailingWork, batch, 1, engine)["status"] == "in_progress"
    for number in range(2, MOST_ATTEMPTS + 1):
        assert batch.begin(number)
    done = attempt(FailingWork, batch, MOST_ATTEMPTS + 1, engine)
    assert lines_of(store, done["output_file_id"]).keys() == {"2", "3", "4"}
    assert lines_of(store, done["error_file_id"]).keys() == {"0", "1"}


def test_an_output_is_given_out_once(begin: Begin, engine: UniFaceEngine) -> None:
    batch, store = begin(2)
    assert attempt(LostWork, batch, 1, engine)["status"] == "finalizing"
    done = attempt(PlainWork, batch, 2, engine)
    outputs = [number for number in store.ids() if store.get(number).purpose == "batch_output"]
    assert outputs == [done["output_file_id"]]


def test_a_run_ends_with_the_process_that_started_it() -> None:
    child = (
        "import time; from uniface_ray.serve.batch_run import end_with_parent; end_with_parent(); "
        "print('there', flush=True); time.sleep(300)"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        process.kill()
        assert process.stdout.read() == b"", "its end of the pipe is closed when the child is gone"
