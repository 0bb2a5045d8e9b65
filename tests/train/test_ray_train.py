"""Trainings on the workers of Ray Train, on one Ray of this module."""

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from tests.model.toys import toy_config
from tests.train.test_loop import curve, weights
from tests.train.tokens import run_alone, save_toy, settings
from uniface_ray.core.interrupts import Asked
from uniface_ray.core.lease import taken
from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.group import train_on_ray
from uniface_ray.train.hooks import NotFiniteError, Outcome

pytestmark = pytest.mark.timeout(600)
STEPS, EVERY = 60, 10
# Two workers add their sums in another order than one: with each step the runs come a little further apart.
SLOWLY = ["stages.learning_rate=1e-4"]
TWO = ["parallel.workers=2", "parallel.num_cpus=0.5", "parallel.threads=1"]


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without experts, whose balance is one of a worker's tokens: a mean of two is another than that of all."""
    config = toy_config(token_experts=None, sequence_experts=None, max_text_length=24)
    return save_toy(tmp_path_factory.mktemp("dense"), config)


def on_ray(config: TrainConfig, tell: Any, asked: Asked | None = None) -> Outcome:
    sink = Folder(config.sink.path, config.storage)
    with taken(sink, print) as lease:
        return train_on_ray(config, "cpu", "float32", lease.sink, asked or Asked(), tell)


def a_worker() -> psutil.Process:
    """One that trains; of this process's Ray, not of another's."""
    below = psutil.Process(os.getpid()).children(recursive=True)
    return next(one for one in below if "TrainWorker" in " ".join(one.cmdline()))


@pytest.mark.slow
def test_a_run_of_two_workers_of_which_one_is_killed_learns_what_one_alone_does(
    one_ray: None, tokens: Path, dense: Path, tmp_path: Path
) -> None:
    words = [f"stages.steps={STEPS}", "validation.every_steps=30", f"checkpoint.every_steps={EVERY}", *SLOWLY]
    assert run_alone(settings(tokens, dense, tmp_path / "alone", *words)) == Outcome("done", STEPS)
    steps: list[int] = []
    killed: list[int] = []

    def tell(record: dict[str, Any]) -> None:
        if "loss/total" in record:
            steps.append(record["step"])
        if not killed and record["step"] >= 4:
            killed.append(record["step"])
            a_worker().send_signal(signal.SIGKILL)

    shared = settings(tokens, dense, tmp_path / "shared", *words, *TWO)
    assert on_ray(shared, tell) == Outcome("done", STEPS)
    assert killed[0] < STEPS
    lost = max(before - after + 1 for before, after in pairwise(steps))
    assert 0 <= lost < 2 * EVERY  # one interval, and the steps while the last checkpoint was being written
    assert steps[-1] == STEPS
    for one, two in zip(curve(tmp_path / "alone"), curve(tmp_path / "shared"), strict=True):
        assert dict(two) == pytest.approx(dict(one), rel=1e-2)
    for name, value in weights(tmp_path / "alone").items():
        assert (weights(tmp_path / "shared")[name] - value).abs().max() < 1e-3, name


@pytest.mark.slow
def test_a_mistake_ends_the_run_with_its_own_words(one_ray: None, tokens: Path, dense: Path, tmp_path: Path) -> None:
    config = settings(tokens, dense, tmp_path, "stages.learning_rate=1e35", "stages.warmup_steps=0", *TWO)
    with pytest.raises(NotFiniteError, match=r"in step \d+ .* not finite"):
        on_ray(config, lambda record: None)


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_with_one_worker(
    one_ray: None, tokens: Path, dense: Path, tmp_path: Path
) -> None:
    words = [f"stages.steps={STEPS}", "checkpoint.every_steps=100", "validation.every_steps=100", *SLOWLY]
    asked = Asked()

    def tell(record: dict[str, Any]) -> None:
        asked.number = signal.SIGTERM

    outcome = on_ray(settings(tokens, dense, tmp_path / "shared", *words, *TWO), tell, asked)
    assert outcome.state == "interrupted"
    assert 0 < outcome.step < STEPS
    left = settings(tokens, dense, tmp_path / "shared", *words)
    assert run_alone(left) == Outcome("done", STEPS)
    assert run_alone(settings(tokens, dense, tmp_path / "alone", *words)) == Outcome("done", STEPS)
    for one, two in zip(curve(tmp_path / "alone"), curve(tmp_path / "shared"), strict=True):
        assert dict(two) == pytest.approx(dict(one), rel=1e-2)
