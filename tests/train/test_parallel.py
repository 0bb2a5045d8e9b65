"""Two workers on gloo, with the whole model on each and with a part of it, against one worker."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.model.toys import toy_config
from tests.train.test_loop import Stop, curve, weights
from tests.train.tokens import run_alone, save_toy, settings
from uniface_ray.model import UniFaceConfig
from uniface_ray.train.hooks import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # each process imports torch anew
KINDS = ("ddp", "fsdp")
STEPS = 5
# The balance of experts is one of a worker's tokens, and a mean of two is another than that of all.
WORDS = [f"stages.steps={STEPS}", "optimizer.ema=0.5", "loss.balance_weight=0", "validation.rows=3"]


def configs() -> dict[str, UniFaceConfig]:
    """Of the models."""
    dense = toy_config(token_experts=None, sequence_experts=None, max_text_length=24)
    return {"dense": dense, "experts": toy_config(max_text_length=24)}


class AskedByOne(Stop):
    """The second worker alone wants to know who is leaving; the answer needs all of them."""

    def __init__(self, step: int, rank: int) -> None:
        super().__init__(step)
        self.times = 0
        self.due = lambda: rank == 1
        self.leaving = self._meet

    def _meet(self) -> bool:
        self.times += 1
        dist.barrier()
        return self.times == 2


def runs(tokens: Path, model: Path, sink: Path, kind: str, rank: int) -> list[Outcome]:
    """Of two workers, interrupted after two steps; the sharded one goes on after its look and leaves a step to do."""
    config = settings(tokens, model, sink, f"parallel.kind={kind}", *WORDS)
    return [run_alone(config, Stop(2)), run_alone(config, AskedByOne(2 if kind == "fsdp" else -1, rank))]


def _worker(rank: int, folder: Path, tokens: Path) -> None:
    torch.set_num_threads(1)
    where = f"file://{folder}/meeting"
    dist.init_process_group("gloo", where, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for model in configs():
        for kind in KINDS:
            outcomes = runs(tokens, folder / model, folder / f"{model}-{kind}", kind, rank)
            assert [one.step for one in outcomes] == [2, 4 if kind == "fsdp" else STEPS], outcomes
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """Runs of one worker and of two; of the sharded one, one worker alone does the last step."""
    folder = tmp_path_factory.mktemp("parallel")
    for model, config in configs().items():
        save_toy(folder / model, config)
        alone = settings(tokens, folder / model, folder / f"{model}-alone", *WORDS)
        assert run_alone(alone) == Outcome("done", STEPS)
    mp.spawn(_worker, (folder, tokens), nprocs=2)
    for model in configs():
        left = settings(tokens, folder / model, folder / f"{model}-fsdp", *WORDS)
        assert run_alone(left) == Outcome("done", STEPS)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["dense", "experts"])
def test_two_workers_learn_what_one_does(folder: Path, model: str, kind: str) -> None:
    def numbers(sink: Path) -> list[dict[str, Any]]:
        return [{name: value for name, value in one if name != "loss/balance"} for one in curve(sink)]

    for alone, shared in zip(numbers(folder / f"{model}-alone"), numbers(folder / f"{model}-{kind}"), strict=True):
        assert shared == pytest.approx(alone, rel=1e-5)
    for name, value in weights(folder / f"{model}-alone").items():
        torch.testing.assert_close(weights(folder / f"{model}-{kind}")[name], value, atol=5e-5, rtol=1e-3, msg=name)
