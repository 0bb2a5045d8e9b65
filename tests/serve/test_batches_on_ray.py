"""Batches worked on by real processes, on a Ray of their own."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI

from tests.serve.batch_client import BOB, batch_app, begin, check, client_of, lines_of, wait
from tests.serve.conftest import Configure, serving
from tests.serve.test_batch_lines import chat_body, line
from uniface_ray.serve import batches as module
from uniface_ray.serve.loop import EngineLoop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MakeApp = Callable[[], FastAPI]


@pytest.fixture
def make_app(configure: Configure, loop: EngineLoop, tmp_path: Path) -> Iterator[MakeApp]:
    home = tmp_path / "files of clients"
    yield lambda: batch_app(configure, loop, home)
    for pid, _ in processes_of(str(home)):  # of a test that failed
        os.kill(pid, signal.SIGKILL)


def test_batches_answer_as_online(make_app: MakeApp) -> None:
    """The same, by processes of their own with a Ray of their own."""
    with serving(make_app()) as address:
        check(client_of(address), lambda number: None, several=False)
        with pytest.raises(openai.NotFoundError):
            client_of(address, BOB).batches.retrieve(client_of(address).batches.list().data[0].id)


@pytest.mark.parametrize("alone", [True, False])
def test_a_batch_survives_its_server_and_its_process(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """The server ends; the process at work is killed, or all its children too; another server takes the batch on."""
    body = chat_body(model="random", max_tokens=8)
    with serving(make_app()) as address:
        ann = client_of(address)
        number = begin(ann, *(line(f"{n}", body) for n in range(30))).id
        wait(ann, number, "in_progress")
    (process,) = [one for one in processes_of(number) if "batch_work" in one[1]]
    monkeypatch.setattr(module, "SILENCE_S", 6.0)
    monkeypatch.setattr(module, "_TEND_S", 1.0)
    for pid, command in processes_of(number):
        if not alone or "batch_work" in command:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while processes_of(number):  # its run ends by itself
        assert time.monotonic() < deadline
        time.sleep(0.5)
    with serving(make_app()) as address:
        ann = client_of(address)
        assert ann.batches.retrieve(number).status == "in_progress"
        done = wait(ann, number, "completed")
        assert len(lines_of(ann, done.output_file_id)) == 30
        assert done.error_file_id is None
    assert process


def test_a_cancelled_batch_gives_out_what_is_done(make_app: MakeApp) -> None:
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
