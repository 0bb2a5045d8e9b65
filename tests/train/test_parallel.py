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
from uniface_ray.train.hooks import Outcome

pytestmark = pytest.mark.slow  # each process imports torch anew
KINDS = ("ddp", "fsdp")
STEPS = 4


def runs(tokens: Path, model: Path, sink: Path, kind: str) -> list[Outcome]:
    """Of two workers, interrupted after two steps; the sharded one leaves a step to do."""
    words = [f"parallel.kind={kind}", f"stages.steps={STEPS}", "optimizer.ema=0.5", "parallel.accumulation=1"]
    config = settings(tokens, model, sink, *words)
    return [run_alone(config, Stop(2)), run_alone(config, Stop(1 if kind == "fsdp" else -1))]


def _worker(rank: int, folder: Path, tokens: Path, model: Path) -> None:
    torch.set_num_threads(1)
    where = f"file://{folder}/meeting"
    dist.init_process_group("gloo", where, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for kind in KINDS:
        outcomes = runs(tokens, model, folder / kind, kind)
        assert [one.step for one in outcomes] == [2, 3 if kind == "fsdp" else STEPS], outcomes
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """Runs of one worker and of two; of the sharded one, one worker alone does the last step."""
    folder = tmp_path_factory.mktemp("parallel")
    # Dense: the balance of experts is one of a worker's tokens, and a mean of two is another than that of all.
    dense = save_toy(folder / "dense", toy_config(token_experts=None, sequence_experts=None, max_text_length=24))
    alone = settings(tokens, dense, folder / "alone", f"stages.steps={STEPS}", "optimizer.ema=0.5")
    assert run_alone(alone) == Outcome("done", STEPS)
    mp.spawn(_worker, (folder, tokens, dense), nprocs=2)
    left = settings(tokens, dense, folder / "fsdp", f"stages.steps={STEPS}", "optimizer.ema=0.5")
    assert run_alone(left) == Outcome("done", STEPS)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_learn_what_one_does(folder: Path, kind: str) -> None:
    def numbers(sink: Path) -> list[dict[str, Any]]:
        return [dict(one) for one in curve(sink)]

    for alone, shared in zip(numbers(folder / "alone"), numbers(folder / kind), strict=True):
        assert shared == pytest.approx(alone, rel=1e-5)
    for name, value in weights(folder / "alone").items():
        torch.testing.assert_close(weights(folder / kind)[name], value, atol=5e-5, rtol=1e-3, msg=name)
