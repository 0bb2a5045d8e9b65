"""More replicas when there is much to do, and fewer when there is little; no answer is lost on the way."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve.test_ray_serve import Load, Server, batch_answers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def drawing(running: Server, clients: int) -> Iterator[None]:
    """So many draw without a pause."""
    ending = threading.Event()

    def draw() -> None:
        while not ending.is_set():
            running.client.images.generate(model="random", prompt="x", extra_body={"steps": 300})

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(draw) for _ in range(clients)]
        try:
            yield
        finally:
            ending.set()
    for future in futures:
        future.result()


def wait_for(running: Server, replicas: int) -> None:
    until = time.monotonic() + 300
    while len(running.replicas()) != replicas:
        assert time.monotonic() < until
        time.sleep(0.2)


def test_replicas_come_and_go_with_the_load(folder: Path, tmp_path: Path) -> None:
    expected = batch_answers(folder)
    settings = ["engine.replicas=[1,2]", "engine.num_cpus=0.5", "engine.batch_size=8"]
    settings += ["serve.image_batch=1", "serve.upscale_delay_s=1", "serve.downscale_delay_s=2"]
    running = Server(folder, tmp_path / "out.txt", *settings)
    try:
        running.said("Ctrl-C")
        assert len(running.replicas()) == 1
        with drawing(running, 2):  # a replica has eight slots for answers, and one for drawings
            wait_for(running, 2)
        wait_for(running, 1)
        many = Load(running.client, clients=12)
        many.wait(12, lambda: len(running.replicas()) == 2)
        many.end()
        few = Load(running.client, clients=1)
        few.wait(1, lambda: len(running.replicas()) == 1)
        few.end()
    finally:
        assert running.end() == 143, running.out.read_text()
    assert many.errors == few.errors == []
    assert all(text == expected[which] for which, text in many.answers + few.answers)
