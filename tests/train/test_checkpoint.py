"""Checkpoints on a disk and in a bucket: whole or not at all, the newest and the best."""

import json
from pathlib import Path

import pytest
import torch

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.train import checkpoint
from uniface_ray.train.checkpoint import Checkpoints, State


def state(step: int, score: float | None = None) -> State:
    tensors = {"weights": {"a": torch.full((4,), float(step)), "b": torch.ones(2, 3)}, "optimizer": {}, "ema": {}}
    places = {"draw": {"epoch": 1, "window": 0, "offset": step, "number": step}}
    return State(step, 0, places, tensors, {"tokens": step}, score)


def saved(checkpoints: Checkpoints, *states: State) -> None:
    for one in states:
        checkpoints.save(one)
    checkpoints.check()


def test_what_is_read_is_what_was_written(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_FILE_BYTES", 20)  # so that each tensor has a file of its own
    saved(Checkpoints(place, 2, best=False), state(1), state(7, 0.5))
    assert sum("weights" in entry.name for entry in place.walk("checkpoints")) == 4
    found = Checkpoints(place, 2, best=False).load()
    assert found is not None
    assert (found.step, found.stage, found.places, found.facts, found.score) == (
        7,
        0,
        state(7).places,
        {"tokens": 7},
        0.5,
    )
    assert found.tensors["weights"].keys() == {"a", "b"}
    assert torch.equal(found.tensors["weights"]["a"], torch.full((4,), 7.0))


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    scores = {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 4.0}
    both, newest = Checkpoints(sink, 2, best=True), Checkpoints(sink, 2, best=False)
    saved(both, *(state(step, score) for step, score in scores.items()))
    assert both.names() == [f"step-{step:08d}" for step in (2, 4, 5)]
    best = both.best()
    assert best is not None
    assert (best.step, best.tensors["weights"]["a"][0].item()) == (2, 2.0)
    sink.write("checkpoints/step-00000002.weights-000.safetensors", b"x")
    next_best = both.best()
    assert next_best is not None
    assert next_best.step == 5
    saved(newest, state(6))
    assert newest.names() == [f"step-{step:08d}" for step in (5, 6)]
    assert {entry.name.partition(".")[0] for entry in sink.walk("checkpoints")} == {
        "checkpoints/step-00000005",
        "checkpoints/step-00000006",
    }


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    saved(Checkpoints(sink, 3, best=False), state(1), state(2), state(3))
    weights = "checkpoints/step-{:08d}.weights-000.safetensors"
    sink.write(weights.format(3), b"x")
    sink.delete(weights.format(2))
    found = Checkpoints(sink, 3, best=False).load()
    assert found is not None
    assert found.step == 1


def test_one_without_a_state_is_none_and_is_swept(tmp_path: Path) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    sink.write("checkpoints/step-00000004.weights-000.safetensors", b"half")
    checkpoints = Checkpoints(sink, 1, best=False)
    assert checkpoints.load() is None
    saved(checkpoints, state(5))
    assert checkpoints.last == 5
    names = [entry.name for entry in sink.list("checkpoints")]
    assert all("step-00000005" in name for name in names)
    assert json.loads(sink.read("checkpoints/step-00000005.state.json"))["step"] == 5


def test_damaged_ones_take_no_good_one_s_place(tmp_path: Path) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    saved(Checkpoints(sink, 4, best=True), *(state(step, 1.0) for step in (1, 2, 3, 4)))
    sink.write("checkpoints/step-00000004.weights-000.safetensors", b"x")
    sink.write("checkpoints/step-00000003.state.json", b'{"step": 3')
    sink.write("checkpoints/step-00000001.state.json", b"")
    checkpoints = Checkpoints(sink, 2, best=True)
    found = checkpoints.load()
    assert found is not None
    assert found.step == 2
    assert checkpoints.damaged == {"step-00000003", "step-00000004"}
    saved(checkpoints, state(3, 2.0))  # over the damaged one
    assert checkpoints.names() == ["step-00000002", "step-00000003"]
    again = Checkpoints(sink, 2, best=True).load()
    assert again is not None
    assert again.step == 3


def test_a_run_does_not_begin_anew_because_all_are_damaged(tmp_path: Path) -> None:
    sink = Folder(str(tmp_path), StorageConfig())
    saved(Checkpoints(sink, 2, best=False), state(1), state(2))
    for step in (1, 2):
        sink.delete(f"checkpoints/step-{step:08d}.weights-000.safetensors")
    with pytest.raises(UserError, match=r"has step-00000001, step-00000002, none of which can be read .*put them back"):
        Checkpoints(sink, 2, best=False).load()
