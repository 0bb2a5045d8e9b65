"""`uniface serve` as people run it: a process of its own, on a Ray of its own, with the official client."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import psutil
import pytest
import torch

import uniface_ray
from tests.jobs.test_submit import CLEAN, free_port
from tests.serve.test_chat import FACE, ask, streamed
from tests.serve.test_images import FAST, pixels, upper_half
from tests.tiny import save_random_model
from uniface_ray.model import UniFaceForConditionalGeneration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUESTIONS = [f"question {number}?" for number in range(6)]


class Server:
    """A running `uniface serve`, and what it has said."""

    def __init__(self, folder: Path, out: Path, *settings: str, environment: Mapping[str, str] = CLEAN) -> None:
        self.port, self.out = free_port(), out
        few = ["model.name=random", f"model.path={folder}", "engine.batch_size=8", "engine.threads=1"]
        words = [*few, f"serve.port={self.port}", "serve.max_tokens=12", "cluster.address=local", *settings]
        command = [sys.executable, "-m", "uniface_ray.cli", "serve", *words]
        self.process = subprocess.Popen(command, stdout=out.open("w"), stderr=subprocess.STDOUT, env=environment)
        self.client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=300
        )

    def said(self, what: str, times: int = 1) -> None:
        """Wait until it has said something so often."""
        until = time.monotonic() + 600
        while len(re.findall(what, self.out.read_text())) < times:
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < until, self.out.read_text()
            time.sleep(0.1)

    def replicas(self) -> list[psutil.Process]:
        """The processes that hold the model."""
        found = []
        for one in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "model-random" in " ".join(one.cmdline()):
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def exported(self) -> str:
        """What Prometheus finds at the node's metrics port, which is one of those that listen."""
        found = ""
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                for socket in one.net_connections("tcp4"):
                    if socket.status == psutil.CONN_LISTEN:
                        with suppress(httpx2.HTTPError):
                            found += httpx2.get(f"http://127.0.0.1:{socket.laddr.port}/metrics", timeout=2).text
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=300)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder whose files may change."""
    return save_random_model(tmp_path_factory.mktemp("weights") / "model")


@pytest.fixture(scope="module")
def server(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(weights, tmp_path_factory.mktemp("server") / "out.txt")
    try:
        running.said("Ctrl-C")
        yield running
    finally:
        if running.process.poll() is None:
            assert running.end() == 143, running.out.read_text()


def batch_answers(folder: Path) -> list[str]:
    """What a plain process answers to `QUESTIONS`."""
    (found,) = uniface_ray.answer(FACE, QUESTIONS, model__path=folder, task__max_new_tokens=12, engine__threads=1)
    return found


def other_weights(folder: Path) -> None:
    """The same network with other numbers, in the same place."""
    torch.manual_seed(5)
    model = UniFaceForConditionalGeneration.from_pretrained(folder)
    for parameter in model.showo.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    coming = folder.with_name("coming")
    model.save_pretrained(coming)
    for file in coming.glob("*.safetensors"):
        os.replace(file, folder / file.name)


class Load:
    """Clients that ask without a pause, half of them for streams; what they were told."""

    def __init__(self, client: openai.OpenAI, clients: int = 4) -> None:
        self.client, self.ending = client, False
        self.answers: list[tuple[int, str]] = []
        self.errors: list[Exception] = []
        self.pool = ThreadPoolExecutor(clients)
        self.futures = [self.pool.submit(self._ask, number) for number in range(clients)]

    def _ask(self, number: int) -> None:
        stream = bool(number % 2)
        while not self.ending:
            which = (number + len(self.answers)) % len(QUESTIONS)
            try:
                found = ask(self.client, QUESTIONS[which], stream=stream)
                text = streamed(found)[0] if stream else found.choices[0].message.content
                self.answers.append((which, text))
            except Exception as error:
                self.errors.append(error)

    def wait(self, more: int, done: Callable[[], bool] = lambda: True) -> None:
        """Until there are so many more answers and `done`."""
        until, enough = time.monotonic() + 600, len(self.answers) + more
        while len(self.answers) < enough or not done():
            assert time.monotonic() < until
            time.sleep(0.1)

    def end(self) -> None:
        """Let what is under way end."""
        self.ending = True
        for future in self.futures:
            future.result()


def test_answers_and_images_through_ray_are_those_of_a_batch(server: Server, weights: Path) -> None:
    expected = batch_answers(weights)
    assert [ask(server.client, question).choices[0].message.content for question in QUESTIONS] == expected
    assert streamed(ask(server.client, QUESTIONS[0], stream=True))[0] == expected[0]
    batch = {"model__path": weights, "model__name": "random", "task__steps": 4, "task__guidance": 2, "run__seed": 3}
    ((drawn,),) = uniface_ray.generate("a woman", engine__threads=1, **batch)
    same = {"extra_body": {"steps": 4, "guidance": 2.0, "seed": int(drawn.text["seed"])}}
    (image,) = server.client.images.generate(model="random", prompt="a woman", **same).data
    assert np.array_equal(pixels(image), np.asarray(drawn))


def test_streams_edits_and_errors_through_ray(server: Server) -> None:
    events = list(server.client.images.generate(model="random", prompt="x", stream=True, partial_images=2, **FAST))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    form: dict[str, Any] = {"image": ("a.png", FACE), "mask": ("m.png", upper_half("white")), "prompt": "a hat"}
    with pytest.raises(openai.BadRequestError, match="mask is"):  # of another size
        server.client.images.edit(model="random", **form)
    with pytest.raises(openai.NotFoundError, match="this server has random"):
        ask(server.client, model="other")
    with pytest.raises(openai.BadRequestError, match="positions"):
        ask(server.client, max_tokens=10**6)
    assert httpx2.get(f"http://127.0.0.1:{server.port}/readyz").json() == {"status": "ready"}


def test_prometheus_finds_the_slots_of_replicas(server: Server) -> None:
    ask(server.client, QUESTIONS[0])
    until = time.monotonic() + 90  # workers report every ten seconds
    wanted = ("ray_uniface_model_slots{", "ray_uniface_http_requests_total")  # of a replica, and of a door
    while not all(name in (found := server.exported()) for name in wanted):
        assert time.monotonic() < until, found
        time.sleep(2)


def test_a_killed_replica_costs_no_answer(server: Server, weights: Path) -> None:
    expected = batch_answers(weights)
    load = Load(server.client)
    load.wait(8)
    (replica,) = server.replicas()
    replica.kill()
    load.wait(8, lambda: [one.pid for one in server.replicas()] not in ([], [replica.pid]))
    load.end()
    assert load.errors == []
    assert all(text == expected[which] for which, text in load.answers)


def test_a_replica_that_hangs_is_replaced_and_costs_no_answer(server: Server, weights: Path) -> None:
    expected = batch_answers(weights)
    load = Load(server.client)
    load.wait(4)
    (replica,) = server.replicas()
    replica.suspend()
    load.wait(8, lambda: [one.pid for one in server.replicas()] not in ([], [replica.pid]))
    load.end()
    assert load.errors == []
    assert all(text == expected[which] for which, text in load.answers)


def test_newer_weights_cost_no_answer(server: Server, weights: Path) -> None:
    before = batch_answers(weights)
    load = Load(server.client)
    load.wait(8)
    other_weights(weights)
    after = batch_answers(weights)
    server.process.send_signal(signal.SIGHUP)
    server.said("replicas with the weights")
    load.wait(8)
    load.end()
    assert load.errors == []
    assert all(text in (before[which], after[which]) for which, text in load.answers)
    assert set(load.answers[-4:]) <= set(enumerate(after))
    assert before != after


def test_weights_that_cannot_be_used_leave_the_old_ones_at_work(server: Server, weights: Path) -> None:
    expected = batch_answers(weights)
    kept = weights.with_name("kept")
    shutil.copytree(weights, kept)
    (file,) = weights.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    server.process.send_signal(signal.SIGHUP)
    server.said("the old weights stay at work")
    assert [ask(server.client, question).choices[0].message.content for question in QUESTIONS] == expected
    shutil.copytree(kept, weights, dirs_exist_ok=True)


def test_the_end_waits_for_what_is_under_way(server: Server) -> None:
    whole = ask(server.client, max_tokens=600).choices[0].message.content
    stream = ask(server.client, max_tokens=600, stream=True)
    first = next(stream)
    server.process.send_signal(signal.SIGTERM)
    server.said("ending")
    assert streamed([first, *stream]) == (whole, "length")
    assert server.process.wait(timeout=300) == 143
    assert "Traceback" not in server.out.read_text()
    ending = server.out.read_text().partition("ending")[2]
    assert "raylet" not in ending
    assert "WARNING" not in ending
