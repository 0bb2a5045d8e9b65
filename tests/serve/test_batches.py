"""Files and batches with the official client; batches are worked on by real processes, on a Ray of their own."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from tests.batch.plain_run import PlainRun
from tests.pictures import encoded, picture
from tests.serve.conftest import Configure, serving
from tests.serve.test_batch_lines import CHAT, IMAGES, chat_body, line
from tests.serve.test_chat import url
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.serve import batches as module
from uniface_ray.serve.app import build_app
from uniface_ray.serve.batch_command import command_line
from uniface_ray.serve.batch_folder import BatchFolder
from uniface_ray.serve.batch_work import Work
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.loop import EngineLoop

(ANN, ANN_LINE), (BOB, BOB_LINE) = make_key("ann"), make_key("bob")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "files of clients"


@pytest.fixture
def make_app(configure: Configure, loop: EngineLoop, home: Path) -> Iterator[Any]:
    def call() -> FastAPI:
        settings = [f"guard.keys=[{ANN_LINE},{BOB_LINE}]", f"files.path={home}", "files.running=2"]
        return build_app(configure(*settings), {"random": loop})

    yield call
    for pid, _ in processes_of(str(home)):  # of a test that failed
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def idle(make_app: Any) -> Iterator[tuple[str, FastAPI]]:
    """A server that begins no work on batches."""
    app = make_app()
    app.state.batches._start = lambda batch, attempt: None
    with serving(app) as address:
        yield address, app


def client_of(address: str, key: str = ANN) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def upload(client: openai.OpenAI, *lines: bytes) -> str:
    return client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch").id


def begin(client: openai.OpenAI, *lines: bytes, endpoint: Any = CHAT) -> Any:
    return client.batches.create(
        input_file_id=upload(client, *lines), endpoint=endpoint, completion_window="24h", metadata={"for": "tests"}
    )


def lines_of(client: openai.OpenAI, number: str | None) -> dict[str, Any]:
    """The lines of a file by their `custom_id`."""
    if number is None:
        return {}
    found = [json.loads(one) for one in client.files.content(number).text.splitlines()]
    return {one["custom_id"]: one for one in found}


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
    assert begun == [1, 2, 3, 4, 5]
    failed = ann.batches.retrieve(number)
    assert failed.status == "failed"
    assert failed.errors
    assert "5 times" in str(failed.errors.data)


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


def wait(client: openai.OpenAI, number: str, *states: str, seconds: float = 500) -> Any:
    deadline = time.monotonic() + seconds
    while (found := client.batches.retrieve(number)).status not in states:
        assert found.status not in ("failed", "completed", "expired", "cancelled"), found
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


class PlainWork(Work):
    """Runs the pipeline's stages in this process instead of on Ray."""

    def __init__(self, batch: BatchFolder, engine: UniFaceEngine) -> None:
        super().__init__(batch, 1)
        self._engine = engine

    def _run_pipeline(self, home: str, model: str, typed: tuple[str, ...]) -> None:
        words = command_line(self._config, self._endpoint, self._batch.folder, home, model, self._paths[model], typed)
        _, _, _, command, source, _, sink, *rest = words
        path, folder = Path(source.partition("=")[2]), Folder(sink.partition("=")[2], StorageConfig())
        PlainRun(path, folder, *rest, engine=self._engine, command=command).finish()


def test_what_a_batch_gives_out_is_what_online_answers(idle: tuple[str, FastAPI], home: Path, folder: Path) -> None:
    """Questions of two kinds, and drawings; wrong ones fail alone."""
    engine = UniFaceEngine(folder, "cpu", "float32", 4, 1)
    check(client_of(idle[0]), lambda number: PlainWork(of_ann(home, number), engine).work())


def of_ann(home: Path, number: str) -> BatchFolder:
    batch = BatchFolder(Folder(str(home), StorageConfig()), "ann", number)
    while not batch.attempts():  # until the server has begun, which here begins nothing
        time.sleep(0.01)
    return batch


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_batches_answer_as_online(make_app: Any) -> None:
    """The same, by processes of their own with a Ray of their own."""
    with serving(make_app()) as address:
        check(client_of(address), lambda number: None)
        with pytest.raises(openai.NotFoundError):
            client_of(address, BOB).batches.retrieve(client_of(address).batches.list().data[0].id)


def check(ann: openai.OpenAI, work: Callable[[str], None]) -> None:
    """Two batches: their output is what online answers.

    Args:
        ann: a client.
        work: does a batch, or leaves that to the server.
    """
    faces = [encoded(picture(number)) for number in range(5)]
    bodies = {f"face {n}": chat_body(url(data), model="random", max_tokens=8) for n, data in enumerate(faces)}
    bodies["short"] = chat_body(url(faces[0]), max_tokens=3)
    wrong = {
        "broken": chat_body(url(faces[0][:100])),
        "hot": chat_body(url(faces[0]), temperature=1),
        "passwd": chat_body("file:///etc/passwd"),
    }
    prompts = {f"drawing {n}": {"prompt": "a face", "seed": n, "steps": 3, "n": 2, "guidance": 2} for n in range(2)}
    chats = begin(ann, *(line(name, body) for name, body in {**bodies, **wrong}.items()))
    drawings = begin(ann, *(line(name, body, IMAGES) for name, body in prompts.items()), endpoint=IMAGES)
    online = {name: ann.chat.completions.create(**{"model": "random", **body}) for name, body in bodies.items()}
    drawn = {name: ann.post(IMAGES.removeprefix("/v1"), body=body, cast_to=object) for name, body in prompts.items()}
    for number in (chats.id, drawings.id):
        work(number)
    done = wait(ann, chats.id, "completed")
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 9, "completed": 6, "failed": 3}
    answers = lines_of(ann, done.output_file_id)
    assert {name: one["response"]["body"]["choices"][0]["message"]["content"] for name, one in answers.items()} == {
        name: one.choices[0].message.content for name, one in online.items()
    }
    errors = lines_of(ann, done.error_file_id)
    codes = {name: one["response"]["body"]["error"]["code"] for name, one in errors.items()}
    assert codes == {"broken": "unreadable_image", "hot": "unsupported_parameter", "passwd": "invalid_image_url"}
    images = lines_of(ann, wait(ann, drawings.id, "completed").output_file_id)
    assert images.keys() == prompts.keys()
    for name, one in images.items():
        assert one["response"]["body"]["data"] == drawn[name]["data"]  # type: ignore[index]
    assert ann.files.retrieve(done.output_file_id or "").purpose == "batch_output"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_survives_its_server_and_its_process(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends; the process at work is killed with all its children; another server takes the batch on."""
    body = chat_body(model="random", max_tokens=8)
    with serving(make_app()) as address:
        ann = client_of(address)
        number = begin(ann, *(line(f"{n}", body) for n in range(30))).id
        wait(ann, number, "in_progress")
    (process,) = [one for one in processes_of(number) if "batch_work" in one[1]]
    monkeypatch.setattr(module, "SILENCE_S", 6.0)
    monkeypatch.setattr(module, "_TEND_S", 1.0)
    for pid, _ in processes_of(number):
        os.kill(pid, signal.SIGKILL)
    with serving(make_app()) as address:
        ann = client_of(address)
        assert ann.batches.retrieve(number).status == "in_progress"
        done = wait(ann, number, "completed")
        assert len(lines_of(ann, done.output_file_id)) == 30
        assert done.error_file_id is None
    assert process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cancelled_batch_gives_out_what_is_done(make_app: Any) -> None:
    body = chat_body(model="random", max_tokens=8)
    with serving(make_app()) as address:
        ann = client_of(address)
        number = begin(ann, *(line(f"{n}", body) for n in range(300))).id
        wait(ann, number, "in_progress")
        assert ann.batches.cancel(number).status == "cancelling"
        done = wait(ann, number, "cancelled", "cancelling")
        done = wait(ann, number, "cancelled")
        answers, undone = lines_of(ann, done.output_file_id), lines_of(ann, done.error_file_id)
        assert len(answers) + len(undone) == 300
        assert all(one["error"]["code"] == "batch_cancelled" for one in undone.values())
        with pytest.raises(openai.ConflictError):
            ann.batches.cancel(number)


def processes_of(name: str) -> list[tuple[int, str]]:
    """(pid, command line) of all processes whose command line has `name` in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if name in command:
            found.append((int(folder.name), command))
    return found
