"""The training loop in this process: what it learns, and that it goes on as if nothing had been."""

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from tests.model.toys import toy_config
from tests.s3_server import S3Server
from tests.train.tokens import run_alone, save_toy, settings
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.storage import Folder
from uniface_ray.engine.adapters import merge
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.train.checkpoint import Checkpoints, State
from uniface_ray.train.hooks import Hooks, NotFiniteError, Outcome
from uniface_ray.train.journal import read_records
from uniface_ray.train.snapshot import Snapshot

# Two stages, an average, and accumulation: all that a checkpoint has to carry.
ALL = ["stages=experts-first", "stages.steps=[3,4]", "optimizer.ema=0.5", "parallel.accumulation=2"]


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with dropout, so that random numbers count."""
    config = toy_config(max_text_length=24)
    config.backbone_config.resid_pdrop = 0.1
    return save_toy(tmp_path_factory.mktemp("dropping"), config)


def curve(sink: Path, *names: str) -> list[tuple[Any, ...]]:
    """Step and losses of every record."""
    records = read_records(Folder(str(sink), StorageConfig()))
    timeless = [{k: v for k, v in one.items() if "/" in k or k in ("step", "gradient_norm")} for one in records]
    return [tuple(one.items()) for one in timeless]


def weights(sink: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(sink / "model" / "model.safetensors")
    return found


class Stop(Hooks):
    """Asks to stop before the step after `step`."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.asked = -1
        self.stopping = self._count

    def _count(self) -> bool:
        self.asked += 1
        return self.asked == self.step


class CrashError(Exception):
    """Stands for anything that ends the process."""


@pytest.fixture(scope="module")
def unbroken(tokens: Path, dropping: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sink = tmp_path_factory.mktemp("unbroken")
    assert run_alone(settings(tokens, dropping, sink, *ALL)) == Outcome("done", 7)
    return sink


@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 6])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    unbroken: Path, tokens: Path, dropping: Path, tmp_path: Path, step: int
) -> None:
    config = settings(tokens, dropping, tmp_path, *ALL)
    assert run_alone(config, Stop(step)) == Outcome("interrupted", step)
    assert run_alone(config) == Outcome("done", 7)
    assert curve(tmp_path) == curve(unbroken)
    assert len(curve(tmp_path)) == 7 + 3
    for name, value in weights(unbroken).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    unbroken: Path, tokens: Path, dropping: Path, tmp_path: Path
) -> None:
    def crash(record: dict[str, Any]) -> None:
        if record["step"] == 6:
            raise CrashError

    config = settings(tokens, dropping, tmp_path, *ALL)
    with pytest.raises(CrashError):
        run_alone(config, Hooks(tell=crash))
    begun: list[int] = []
    assert run_alone(config, Hooks(tell=lambda record: begun.append(record["step"]))) == Outcome("done", 7)
    assert begun[0] == 5  # the checkpoint was of step 4
    assert curve(tmp_path) == curve(unbroken)
    assert all(torch.equal(weights(tmp_path)[name], value) for name, value in weights(unbroken).items())


@pytest.mark.slow
def test_a_bucket_is_as_good_as_a_disk(tokens: Path, toy: Path, tmp_path: Path, s3: S3Server) -> None:
    sink = Folder(f"s3://{s3.bucket()}/run", s3.storage)
    storage = [f"storage.{name}={value}" for name, value in s3.storage.model_dump(exclude_defaults=True).items()]
    config = settings(tokens, toy, sink.uri, *storage)
    assert run_alone(config, Stop(3)) == Outcome("interrupted", 3)
    assert run_alone(config) == Outcome("done", 6)
    assert run_alone(settings(tokens, toy, tmp_path)) == Outcome("done", 6)
    assert torch.equal(
        load(sink.read("model/model.safetensors"))["showo.lm_head.weight"], weights(tmp_path)["showo.lm_head.weight"]
    )
    assert {entry.name.partition("/")[0] for entry in sink.walk()} >= {"checkpoints", "report.html", "tensorboard"}


def test_a_machine_that_is_about_to_go_saves_first(tokens: Path, toy: Path, tmp_path: Path) -> None:
    def crash(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise CrashError

    due, answers = [False, False, True, True], [False, True]
    rare = ["checkpoint.every_steps=100", "validation.every_steps=100", "stages.steps=5"]
    config = settings(tokens, toy, tmp_path, *rare)
    with pytest.raises(CrashError):
        run_alone(config, Hooks(due=lambda: due.pop(0), leaving=lambda: answers.pop(0), tell=crash))
    assert not answers  # only asked when it was due
    begun: list[int] = []
    assert run_alone(config, Hooks(tell=lambda record: begun.append(record["step"]))) == Outcome("done", 5)
    assert begun[0] == 4


def test_stages_train_what_they_say(unbroken: Path, dropping: Path, tokens: Path, tmp_path: Path) -> None:
    before, after = load_file(dropping / "model.safetensors"), weights(unbroken)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("magvit.", "encoders.semantic", "encoders.identity")) for name in changed)
    assert {"showo.lm_head.weight", "showo.model.layers.0.mlp.routed.up_proj", "encoders.noise.mlp.0.weight"} < changed

    run_alone(settings(tokens, dropping, tmp_path, "stages.trained=experts", "stages.steps=1", "optimizer.ema=0"))
    changed = {name for name, value in weights(tmp_path).items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".mlp." in name or "sequence_experts" in name or "encoders." in name for name in changed)


def test_what_is_written_is_a_model_for_every_command(unbroken: Path) -> None:
    engine = UniFaceEngine(unbroken / "model", threads=1)
    pixels = torch.zeros(3, 32, 32, dtype=torch.uint8).numpy()
    (answer,) = engine.run([Ask(pixels, "Is this a man?", 4)])
    assert isinstance(answer, Text)


@pytest.mark.slow
def test_it_learns(tokens: Path, toy: Path, tmp_path: Path) -> None:
    words = ["stages.steps=30", "stages.draw=0", "validation.every_steps=30", "checkpoint.every_steps=30"]
    run_alone(settings(tokens, toy, tmp_path, *words))
    text = [dict(one)["loss/text"] for one in curve(tmp_path) if "loss/text" in dict(one)]
    assert text[-1] < 0.6 * text[0]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["parallel.accumulation=3"], ["parallel.gradient_checkpointing=true"]])
def test_saving_memory_changes_nothing(tokens: Path, tmp_path: Path, words: list[str]) -> None:
    config = toy_config(token_experts=None, sequence_experts=None, max_text_length=24)
    dense = save_toy(tmp_path / "dense", config)  # the balance of experts is one of parts
    curves = []
    for name, more in (("plain", []), ("saving", words)):
        run_alone(settings(tokens, dense, tmp_path / name, "stages.steps=3", *more))
        curves.append([value for record in curve(tmp_path / name) for value in dict(record).values()])
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=1e-4, atol=1e-5)


def test_adapters_learn_and_are_merged(tokens: Path, toy: Path, tmp_path: Path) -> None:
    words = ["lora.rank=4", "lora.targets=[q_proj,dense]", "lora.experts=true", "stages.steps=4"]
    config = settings(tokens, toy, tmp_path, *words)
    assert run_alone(config, Stop(3)).state == "interrupted"
    assert run_alone(config).state == "done"
    before, after = load_file(toy / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    base = UniFaceForConditionalGeneration.from_pretrained(toy)
    again = merge(base, tmp_path / "adapter").state_dict()
    assert all(torch.allclose(again[name], value, atol=1e-6) for name, value in after.items())
    assert {name.rpartition("layers.0.")[2] for name in changed if "layers.0." in name} == {
        "self_attn.q_proj.weight",
        "self_attn.dense.weight",
        "mlp.routed.up_proj",
        "mlp.routed.down_proj",
    }


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(
    tokens: Path, toy: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFiniteError, match=r"in step 2 \(stage 0, .*rate 9.4e\+34\) the losses total, .*rows"):
        run_alone(settings(tokens, toy, tmp_path, "stages.learning_rate=1e35", "stages.warmup_steps=0"))
    assert not (tmp_path / "model").exists()
    sound = settings(tokens, toy, tmp_path / "sound", "stages.warmup_steps=4")
    run_alone(sound, Stop(2))
    with pytest.raises(NotFiniteError, match=r"the checkpoint of step 2 is good: lower stages.learning_rate"):
        run_alone(settings(tokens, toy, tmp_path / "sound", "stages.learning_rate=1e35"))
    assert run_alone(sound) == Outcome("done", 6)


def test_a_sink_that_cannot_be_written_stops_the_run(tokens: Path, toy: Path, tmp_path: Path) -> None:
    config = settings(tokens, toy, tmp_path)

    def block(record: dict[str, Any]) -> None:
        if record["step"] == 3 and "loss/total" in record:
            (tmp_path / "checkpoints").rename(tmp_path / "kept")
            (tmp_path / "checkpoints").write_text("a file where a folder should be")

    with pytest.raises(StoppedError, match=r"cannot be written any more .*the last is of step 2: once it can"):
        run_alone(config, Hooks(tell=block))
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "kept").rename(tmp_path / "checkpoints")
    assert run_alone(config) == Outcome("done", 6)


def test_a_stop_where_a_checkpoint_was_just_written_keeps_its_score(tokens: Path, toy: Path, tmp_path: Path) -> None:
    def score() -> Any:
        return json.loads((tmp_path / "checkpoints/step-00000002.state.json").read_text())["score"]

    config = settings(tokens, toy, tmp_path, "validation.every_steps=2")
    assert run_alone(config, Stop(2)) == Outcome("interrupted", 2)
    held_out = next(dict(one)["held_out/total"] for one in curve(tmp_path) if "held_out/total" in dict(one))
    assert score() == held_out
    assert run_alone(config, Stop(0)) == Outcome("interrupted", 2)
    assert score() == held_out
    assert run_alone(config, Stop(1)) == Outcome("interrupted", 3)
    assert json.loads((tmp_path / "checkpoints/step-00000003.state.json").read_text())["score"] is None


def test_of_what_learns_one_copy_is_held_at_a_time(
    tokens: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    held: list[int] = []
    take, read = Snapshot.take, Checkpoints.load

    def note(groups: dict[str, dict[str, torch.Tensor]]) -> None:
        made.extend(weakref.ref(tensor) for tensors in groups.values() for tensor in tensors.values())

    def taken(snapshot: Snapshot) -> dict[str, dict[str, torch.Tensor]]:
        held.append(sum(one() is not None for one in made))
        note(groups := take(snapshot))
        return groups

    def loaded(checkpoints: Checkpoints) -> State | None:
        if state := read(checkpoints):
            note(state.tensors)
        return state

    monkeypatch.setattr(Snapshot, "take", taken)
    monkeypatch.setattr(Checkpoints, "load", loaded)
    config = settings(tokens, toy, tmp_path, "checkpoint.every_steps=1", *ALL)
    assert run_alone(config, Stop(2)) == Outcome("interrupted", 2)
    made.clear()
    assert run_alone(config) == Outcome("done", 7)
    assert held == [0] * len(held)
    assert len(made) > 100


def test_data_that_has_changed_is_refused_before_a_place_in_it_is_mistaken(
    tokens: Path, toy: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tokens / "data" / "status=ok", data)
    config = settings(data, toy, tmp_path / "run", "stages.steps=3")
    assert run_alone(config, Stop(2)) == Outcome("interrupted", 2)
    (data / "zz.parquet").write_bytes((data / "part-00000000.parquet").read_bytes())
    with pytest.raises(UserError, match=r"whose files have changed since step 2 \(other names or sizes\)"):
        run_alone(config)
    (data / "zz.parquet").unlink()
    document = tmp_path / "run/checkpoints/step-00000002.state.json"
    known = json.loads(document.read_text())
    assert known.pop("data")
    document.write_text(json.dumps(known))  # as it was written before the files were noted
    assert run_alone(config) == Outcome("done", 3)


def test_the_model_can_be_that_of_the_best_checkpoint(tokens: Path, toy: Path, tmp_path: Path) -> None:
    # The last steps are so large that they unlearn what the first have learnt.
    words = ["stages.steps=[2,2]", "stages.learning_rate=[1e-3,10]", "stages.trained=all", "stages.warmup_steps=0"]
    seen = ["validation.every_steps=2", "checkpoint.best=true", "checkpoint.keep=1"]
    config = settings(tokens, toy, tmp_path, *words, *seen)
    assert run_alone(config) == Outcome("done", 4)
    last = weights(tmp_path)["showo.lm_head.weight"]
    notes: list[str] = []
    best = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"export": "best"})})
    assert run_alone(best, Hooks(tell=lambda record: notes.append(str(record.get("note"))))) == Outcome("done", 4)
    assert notes == ["the model is that of step 2, which is the best"]
    found = weights(tmp_path)["showo.lm_head.weight"]
    assert not torch.equal(found, last)
    assert torch.equal(found, load_file(next(tmp_path.glob("checkpoints/*02.weights-000*")))["showo.lm_head.weight"])
