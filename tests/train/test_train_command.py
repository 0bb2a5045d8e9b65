"""`uniface train` as a user has it: what it prints and leaves, and mistakes that overwrite nothing."""

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from tests.train.tokens import words
from uniface_ray.cli import main
from uniface_ray.core.fenced import Fenced
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train import validation

ALONE = ["parallel.workers=0", "stages.steps=4", "validation.every_steps=2"]


def tree(folder: Path) -> dict[str, str]:
    """Every file but those of the lease, and its hash."""
    files = [file for file in folder.rglob("*") if file.is_file() and "lease" not in file.parts]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def sink(tokens: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sink = tmp_path_factory.mktemp("run")
    assert main("train", [*words(tokens, toy, sink), *ALONE]) == 0
    return sink


def test_a_run_leaves_a_model_a_page_and_its_numbers(sink: Path) -> None:
    names = {name.partition("/")[0] for name in tree(sink)}
    assert names == {"checkpoints", "manifest.json", "metrics.jsonl", "model", "report.html", "tensorboard"}
    manifest = json.loads((sink / "manifest.json").read_text())
    assert (manifest["state"], manifest["step"], manifest["steps"]) == ("done", 4, 4)
    records = [json.loads(line) for line in (sink / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/text", "loss/mask", "loss/score", "loss/balance", "tokens_per_s", "memory_gb"} < records[0].keys()
    page = (sink / "report.html").read_text()
    assert page.count("<polyline") > 6
    assert page.count("data:image/jpeg") == 2
    assert "http" not in page.partition("Configuration")[0]


def test_where_only_questions_are_trained_the_page_shows_their_answers(
    tokens: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[int]] = []

    def spied(model: UniFaceForConditionalGeneration, rows: list[Tensor], *rest: Any) -> list[list[int]]:
        prompts.extend(row.tolist() for row in rows)
        return greedy_text(model, rows, *rest)

    monkeypatch.setattr(validation, "greedy_text", spied)
    only = [*ALONE, "stages.draw=0", "stages.caption=0", "stages.vqa=1"]
    assert main("train", [*words(tokens, toy, tmp_path), *only]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") == page.count("Is this a man?") == 1
    assert page.count('class="details">Yes.<') + page.count('class="details">No.<') == 1
    asked = UniFaceProcessor.from_pretrained(toy).question_ids("Is this a man?")
    assert prompts
    assert all(row[-len(asked) :] == asked for row in prompts)
    assert "draws" not in page.partition("Configuration")[0]


@pytest.mark.parametrize("command", ["status", "verify", "replay-rejects"])
def test_commands_about_rows_say_that_there_are_none(
    sink: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command, [f"sink.path={sink}"]) == 2
    assert "which holds a training (done, step 4 of 4), and no rows" in capsys.readouterr().err


def test_done_is_done(sink: Path, tokens: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(sink)
    assert main("train", [*words(tokens, toy, sink), *ALONE]) == 0
    assert "4 of 4" in capsys.readouterr().out
    changed = {name for name, digest in tree(sink).items() if before.get(name) != digest}
    assert not any(name.startswith("checkpoints") for name in changed)


def test_damaged_checkpoints_are_told_and_the_manifest_keeps_its_step(
    sink: Path, tokens: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sink, tmp_path / "run")
    typed = [*words(tokens, toy, tmp_path / "run"), *ALONE]
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "step-00000004.weights-000.safetensors").write_bytes(b"x")
    assert main("train", typed) == 0
    assert "going on from step 2: step-00000004 cannot be read any more" in capsys.readouterr().out
    for file in checkpoints.glob("*.safetensors"):
        file.unlink()
    assert main("train", typed) == 2
    assert "none of which can be read" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["state"], manifest["step"]) == ("failed", 4)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["run.seed=1"], "run.seed was 0, now 1"),
        (["lora.rank=2"], "lora.rank was 0, now 2"),
        (["data.batch_size=7"], "data.batch_size was 6, now 7"),
        (["stages=experts-first", "stages.steps=4"], "stages.1.trained was None, now 'all'"),
    ],
)
def test_a_sink_of_another_training_is_left_as_it_is(
    sink: Path, tokens: Path, toy: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    before = tree(sink)
    assert main("train", [*words(tokens, toy, sink), *ALONE, *more]) == 2
    assert told in capsys.readouterr().err
    assert tree(sink) == before


def test_a_run_that_has_held_out_other_rows_does_not_go_on(
    sink: Path, tokens: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((sink / "manifest.json").read_text())
    del manifest["identity"]["data"]["held_out_are"], manifest["identity"]["data"]["held_out_by"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main("train", [*words(tokens, toy, tmp_path), *ALONE]) == 2
    assert "data.held_out_are was None, now 'images'" in capsys.readouterr().err


def test_a_sink_of_a_job_is_left_as_it_is(tokens: Path, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    manifest = tokens / "manifest.json"
    (tmp_path / "out" / "manifest.json").write_bytes(manifest.read_bytes())
    before = tree(tmp_path)
    assert main("train", [*words(tokens, toy, tmp_path / "out"), *ALONE]) == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["data.path=/nowhere"], "data.path is '/nowhere', where there is no parquet file"),
        (["model.path=/nowhere"], "model.path is '/nowhere', but there is no config.json"),
        (["parallel.workers=4"], "4 workers with parallel.accumulation=1 need at least 4 that draw"),
        (["parallel.device=cuda"], "parallel.device is cuda, but there is no GPU that torch can use"),
        (["lora.rank=2", "stages.trained=experts"], "the adapters alone learn"),
        (["stages.trained=[all,nothing]"], "stages.trained is 'nothing' in stage 1, but this model has no such"),
        (["stages.trained=everything"], "but the rows of data.path hold what these see, and no pixels"),
        (["stages.stesp=3"], "stages.stesp: there is no such setting. Did you mean stages.steps"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    tokens: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert main("train", [*words(tokens, toy, tmp_path / "out"), *ALONE, *more]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert not [name for name in tree(tmp_path) if "manifest" in name or "checkpoints" in name]


def test_wrong_columns_and_a_sink_among_the_data_are_told(
    tokens: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"row_id": [1], "text": ["a"]}), tmp_path / "one.parquet")
    assert main("train", [*words(tmp_path, toy, tmp_path / "out"), *ALONE]) == 2
    assert "lacks codes (list<item: int32>), captions" in capsys.readouterr().err
    only = pq.read_table(tokens / "data/status=ok/part-00000000.parquet")
    none = pa.array([[]] * len(only), pa.list_(pa.string()))
    for name in ("questions", "answers"):
        only = only.set_column(only.column_names.index(name), name, none)
    pq.write_table(only, tmp_path / "one.parquet")
    assert main("train", [*words(tmp_path, toy, tmp_path.parent / "out"), *ALONE]) == 2
    assert "no row to train on has questions, but stages.vqa is not 0: set it to 0" in capsys.readouterr().err
    data = tokens / "data" / "status=ok"
    assert main("train", [*words(tokens, toy, data / "run"), *ALONE]) == 2
    assert "which lies inside data.path" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report.html", "manifest.json", "model"])
def test_a_sink_that_fails_later_on_is_told_and_the_same_command_goes_on(
    tokens: Path,
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    write = Fenced.write

    def full(sink: Fenced, file: str, data: bytes) -> None:
        if file.partition("/")[0] == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(sink, file, data)

    settings = [*words(tokens, toy, tmp_path), "parallel.workers=0", "stages.steps=2", "validation.every_steps=1"]
    with monkeypatch.context() as patch:
        patch.setattr(Fenced, "write", full)
        assert main("train", settings) == 3
    told = capsys.readouterr().err
    assert "which cannot be written any more ([Errno 28] No space left on device); once it can" in " ".join(
        told.split()
    )
    assert "Traceback" not in told
    assert main("train", settings) == 0


@pytest.mark.slow
def test_it_runs_in_bfloat16(tokens: Path, toy: Path, tmp_path: Path) -> None:
    more = ["parallel.dtype=bfloat16", "parallel.gradient_checkpointing=true", "stages.steps=2", "run.peak_tflops=0.1"]
    assert main("train", [*words(tokens, toy, tmp_path), "parallel.workers=0", *more]) == 0
    record = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert 0 < record["flops_utilisation"] < 1


@pytest.mark.slow
def test_a_signal_saves_first_and_the_same_command_goes_on(sink: Path, tokens: Path, toy: Path, tmp_path: Path) -> None:
    settings = [*words(tokens, toy, tmp_path), *ALONE, "checkpoint.every_steps=1000"]
    endless = [sys.executable, "-m", "uniface_ray.cli", "train", *settings, "stages.steps=100000"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step 2 of" in line:
                process.send_signal(signal.SIGTERM)
                break
        out = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "the same command goes on from here" in out
    step = json.loads((tmp_path / "manifest.json").read_text())["step"]
    assert (tmp_path / f"checkpoints/step-{step:08d}.state.json").is_file()
    assert main("train", [*settings, f"stages.steps={step + 1}"]) == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["step"] == step + 1
