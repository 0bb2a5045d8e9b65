"""Files and batches with the official client."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from tests.batch.plain_run import PlainRun
from tests.serve.batch_client import ANN_LINE, BOB, batch_app, begin, check, client_of, lines_of
from tests.serve.conftest import Configure, serving
from tests.serve.test_batch_lines import CHAT, chat_body, line
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.serve import batches as module
from uniface_ray.serve.batch_folder import BatchFolder
from uniface_ray.serve.batch_work import Work
from uniface_ray.serve.loop import EngineLoop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "files of clients"


@pytest.fixture
def idle(configure: Configure, loop: EngineLoop, home: Path) -> Iterator[tuple[str, FastAPI]]:
    """A server that begins no work on batches."""
    app = batch_app(configure, loop, home)
    app.state.batches._start = lambda batch, attempt: None
    with serving(app) as address:
        yield address, app


def test_files_with_the_official_client(idle: tuple[str, FastAPI]) -> None:
    ann, bob = client_of(idle[0]), client_of(idle[0], BOB)
    content = b"{}\n" * 1000
    made = ann.files.create(file=("../faces.jsonl", content), purpose="batch")
    assert (made.filename, made.bytes, made.purpose, made.status) == ("faces.jsonl", 3000, "batch", "processed")
    assert ann.files.retrieve(made.id) == made
    assert ann.files.content(made.id).read() == content
    others = [ann.files.create(file=("b", b"x"), purpose="batch").id for _ in range(3)]
    assert [one.id for one in ann.files.list(limit=2)] == [*reversed(others), made.id], "pages follow one another"
    assert [one.id for one in bob.files.list()] == []
    for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.BadRequestError):
        ann.files.create(file=("a", b""), purpose="fine-tune")
    assert ann.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        ann.files.retrieve(made.id)


def test_a_file_s_content_is_never_a_page(idle: tuple[str, FastAPI]) -> None:
    ann = client_of(idle[0])
    made = ann.files.create(file=("page.html", b"<script>"), purpose="batch")
    headers = ann.files.with_raw_response.content(made.id).headers
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Content-Type"] == "application/octet-stream"


def test_batches_belong_to_their_owner_and_can_be_cancelled(idle: tuple[str, FastAPI]) -> None:
    ann, bob = client_of(idle[0]), client_of(idle[0], BOB)
    first, second = begin(ann, line("a", chat_body())), begin(ann, line("a", chat_body()))
    assert (first.status, first.metadata) == ("validating", {"for": "tests"})
    assert [one.id for one in ann.batches.list(limit=1)] == [second.id, first.id]
    assert list(bob.batches.list()) == []
    for call in (bob.batches.retrieve, bob.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(first.id)
    with pytest.raises(openai.NotFoundError):
        bob.batches.create(input_file_id=first.input_file_id, endpoint=CHAT, completion_window="24h")
    assert ann.batches.cancel(first.id).status in ("cancelling", "cancelled")
    with pytest.raises(openai.BadRequestError):
        ann.batches.create(input_file_id=first.input_file_id, endpoint="/v1/embeddings", completion_window="24h")


def test_without_a_folder_there_are_none(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    for call in (client.files.list, client.batches.list):
        with pytest.raises(openai.NotFoundError, match=r"files\.path is not set"):
            call()


def test_as_many_at_a_time_and_only_one_process_each(idle: tuple[str, FastAPI], home: Path) -> None:
    address, app = idle
    begun: list[tuple[str, int]] = []
    app.state.batches._start = lambda batch, attempt: begun.append((batch.id, attempt))
    ann = client_of(address)
    made = [begin(ann, line("a", chat_body())).id for _ in range(3)]
    for _ in range(5):
        app.state.batches.tend()
    assert begun == [(made[0], 1), (made[1], 1)]
    BatchFolder(Folder(str(home), StorageConfig()), "ann", made[0]).tell({"status": "completed"})
    app.state.batches.tend()
    assert begun[2:] == [(made[2], 1)]


def test_a_storage_that_does_not_answer_stops_no_chat(idle: tuple[str, FastAPI]) -> None:
    address, app = idle
    answers, begun = threading.Event(), threading.Semaphore(0)

    def hang(owner: str, limit: int, after: str | None) -> dict[str, Any]:
        begun.release()
        answers.wait()
        return {"object": "list", "data": [], "has_more": False}

    app.state.batches.list = hang
    polls = [threading.Thread(target=lambda: list(client_of(address).batches.list())) for _ in range(40)]
    try:
        for poll in polls:
            poll.start()
        for _ in range(min(16, (os.cpu_count() or 1) + 4)):
            begun.acquire()
        chat = client_of(address).with_options(timeout=30.0).chat.completions.create(**chat_body(model="random"))
        assert chat.choices[0].message.content
    finally:
        answers.set()
        for poll in polls:
            poll.join()


def test_a_process_that_is_lost_is_replaced_a_few_times(
    idle: tuple[str, FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, app = idle
    begun: list[int] = []
    app.state.batches._start = lambda batch, attempt: begun.append(attempt)
    ann = client_of(address)
    number = begin(ann, line("a", chat_body())).id
    monkeypatch.setattr(module, "SILENCE_S", 0.0)
    for _ in range(8):
        app.state.batches.tend()
    assert begun == [1, 2, 3, 4, 5, 6], "the last one only gives out what the others have done"
    failed = ann.batches.retrieve(number)
    assert failed.status == "failed"
    assert "6 times" in str(failed.errors)


def test_malformed_input_fails_the_batch(idle: tuple[str, FastAPI], home: Path) -> None:
    ann = client_of(idle[0])
    number = begin(ann, line("a", chat_body()), b"{", line("a", chat_body())).id
    Work(BatchFolder(Folder(str(home), StorageConfig()), "ann", number), 1).work()
    failed = ann.batches.retrieve(number)
    assert failed.status == "failed"
    assert failed.errors
    assert failed.errors.data
    assert [(one.line, one.code) for one in failed.errors.data] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]


def test_what_is_not_done_in_time_is_given_back(idle: tuple[str, FastAPI], home: Path) -> None:
    ann = client_of(idle[0])
    number = begin(ann, line("good", chat_body()), line("bad", {})).id
    path = home / "owners" / "ann" / "batch" / number / "request.json"
    request = json.loads(path.read_text())
    assert ANN_LINE not in path.read_text(), "no secrets are kept with a batch"
    path.write_text(json.dumps({**request, "expires_at": int(time.time()) - 1}))
    batch = BatchFolder(Folder(str(home), StorageConfig()), "ann", number)
    while not batch.attempts():  # until the server has begun, which here begins nothing
        time.sleep(0.01)
    Work(batch, 1).work()
    expired = ann.batches.retrieve(number)
    assert expired.status == "expired"
    assert expired.request_counts
    assert expired.request_counts.to_dict() == {"total": 2, "completed": 0, "failed": 2}
    lines = lines_of(ann, expired.error_file_id)
    assert lines["good"]["error"]["code"] == "batch_expired"
    assert lines["bad"]["response"]["status_code"] == 400
    assert expired.output_file_id is None
    assert [*BatchFolder.all_open(batch.folder)] == []


class SleepingWork(Work):
    """Its run is cancelled before it can hear of signals."""

    def words(self, home: str, model: str, typed: tuple[str, ...]) -> list[str]:
        self._batch.cancel()
        return [sys.executable, "-c", "import time; time.sleep(300)"]


def test_a_run_that_is_cancelled_as_it_starts_is_cancelled(idle: tuple[str, FastAPI], home: Path) -> None:
    ann = client_of(idle[0])
    number = begin(ann, line("good", chat_body(model="random"))).id
    SleepingWork(of_ann(home, number), 1, beat_s=0.05).work()
    done = ann.batches.retrieve(number)
    assert done.status == "cancelled", done
    assert lines_of(ann, done.error_file_id)["good"]["error"]["code"] == "batch_cancelled"


class PlainWork(Work):
    """Runs the pipeline's stages in this process instead of on Ray; by an engine of each run's own where None."""

    def __init__(self, batch: BatchFolder, engine: UniFaceEngine | None = None, attempt: int = 1) -> None:
        super().__init__(batch, attempt)
        self._engine = engine

    def _run_pipeline(self, home: str, model: str, typed: tuple[str, ...]) -> bool:
        _, _, _, command, source, _, sink, *rest = words = self.words(home, model, typed)
        engine = self._engine
        if engine is None:
            config = compose(command, words[4:])
            check_engine(config)
            made = build_engine(config, "cpu", "float32", 1)
            assert isinstance(made, UniFaceEngine)
            engine = made
        path, folder = Path(source.partition("=")[2]), Folder(sink.partition("=")[2], StorageConfig())
        PlainRun(path, folder, *rest, engine=engine, command=command).finish()
        return True


def test_what_a_batch_gives_out_is_what_online_answers(idle: tuple[str, FastAPI], home: Path, folder: Path) -> None:
    """Questions of two kinds, and drawings; wrong ones fail alone."""
    engine = UniFaceEngine(folder, "cpu", "float32", 4, 1)
    check(client_of(idle[0]), lambda number: PlainWork(of_ann(home, number), engine).work())


def test_a_quota_that_is_full_at_the_end_loses_nothing(
    idle: tuple[str, FastAPI], configure: Configure, home: Path, folder: Path
) -> None:
    lines = [line("a", chat_body(model="random")), line("b", {})]
    app = batch_app(configure, idle[1].state.models.by_name["random"], home, f"files.owner_bytes={len(lines[0]) + 400}")
    app.state.batches._start = lambda batch, attempt: None
    with serving(app) as address:
        ann = client_of(address)
        number = begin(ann, *lines).id
        PlainWork(of_ann(home, number), UniFaceEngine(folder, "cpu", "float32", 4, 1)).work()
        done = ann.batches.retrieve(number)
        assert done.status == "completed", done
        assert [*lines_of(ann, done.output_file_id), *lines_of(ann, done.error_file_id)] == ["a", "b"]
        assert [one for one in (home / "owners/ann/batch" / number / "runs").rglob("*") if one.is_file()] == []
        with pytest.raises(openai.APIStatusError) as caught:  # the next one is told before any work is done
            ann.batches.create(input_file_id=done.input_file_id, endpoint=CHAT, completion_window="24h")
        assert (caught.value.status_code, caught.value.code) == (413, "quota_exceeded")


def test_a_batch_that_waited_while_the_quota_was_filled_does_no_work(idle: tuple[str, FastAPI], home: Path) -> None:
    ann = client_of(idle[0])
    number = begin(ann, line("a", chat_body())).id
    work = Work(of_ann(home, number), 1)
    work._store._max_bytes = 1
    work.work()
    failed = ann.batches.retrieve(number)
    assert (failed.status, "delete some first" in str(failed.errors)) == ("failed", True)


class FullDisk(PlainWork):
    """Finds no room for the output."""

    def _keep(self, lines: Iterator[bytes], what: str) -> tuple[str | None, int]:
        raise OSError(28, "No space left on device")


def test_a_storage_that_fails_at_the_end_is_tried_again(idle: tuple[str, FastAPI], home: Path, folder: Path) -> None:
    ann, engine = client_of(idle[0]), UniFaceEngine(folder, "cpu", "float32", 4, 1)
    number = begin(ann, line("a", chat_body(model="random"))).id
    FullDisk(batch := of_ann(home, number), engine).work()
    assert ann.batches.retrieve(number).status == "finalizing"
    assert batch.begin(2)
    PlainWork(batch, engine, 2).work()
    done = ann.batches.retrieve(number)
    assert done.status == "completed", done
    assert [*lines_of(ann, done.output_file_id)] == ["a"]


def test_lines_for_an_adapter_are_answered_by_it(
    idle: tuple[str, FastAPI], configure: Configure, home: Path, adapter: Path
) -> None:
    app = batch_app(configure, idle[1].state.models.by_name["random"], home, f"serve.models=[tuned={adapter}]")
    app.state.batches._start = lambda batch, attempt: None
    with serving(app) as address:
        ann = client_of(address)
        number = begin(ann, line("base", chat_body(model="random")), line("tuned", chat_body(model="tuned"))).id
        PlainWork(of_ann(home, number)).work()
        done = ann.batches.retrieve(number)
        assert done.status == "completed", done
        answers = lines_of(ann, done.output_file_id)
    texts = {name: one["response"]["body"]["choices"][0]["message"]["content"] for name, one in answers.items()}
    assert texts["base"] != texts["tuned"]


def of_ann(home: Path, number: str) -> BatchFolder:
    batch = BatchFolder(Folder(str(home), StorageConfig()), "ann", number)
    while not batch.attempts():  # until the server has begun, which here begins nothing
        time.sleep(0.01)
    return batch
