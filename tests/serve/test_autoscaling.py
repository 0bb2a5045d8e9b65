"""More replicas when there is much to do, and fewer when there is little; no answer is lost on the way."""

from pathlib import Path

import pytest

from tests.serve.test_ray_serve import Load, Server, batch_answers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_replicas_come_and_go_with_the_load(folder: Path, tmp_path: Path) -> None:
    expected = batch_answers(folder)
    settings = ["engine.replicas=[1,2]", "engine.num_cpus=0.5", "engine.batch_size=2"]
    settings += ["serve.upscale_delay_s=1", "serve.downscale_delay_s=2"]
    running = Server(folder, tmp_path / "out.txt", *settings)
    try:
        running.said("Ctrl-C")
        assert len(running.replicas()) == 1
        many = Load(running.client, clients=12)
        many.wait(12, lambda: len(running.replicas()) == 2)
        many.end()
        one = Load(running.client, clients=1)
        one.wait(1, lambda: len(running.replicas()) == 1)
        one.end()
    finally:
        assert running.end() == 143, running.out.read_text()
    assert many.errors == one.errors == []
    assert all(text == expected[which] for which, text in many.answers + one.answers)
