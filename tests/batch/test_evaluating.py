"""`uniface evaluate`: its steps one after the other, the numbers that come out, and the mistakes it tells of."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batch.plain_job import run_here
from tests.evaluate.agreement import agreement
from tests.evaluate.test_vision import vit
from tests.pictures import variations
from uniface_ray.batch import evaluating
from uniface_ray.batch.evaluating import compose_evaluation, evaluate
from uniface_ray.cli import main
from uniface_ray.core.compose import compose
from uniface_ray.core.errors import UserError
from uniface_ray.evaluate.answers import exact
from uniface_ray.evaluate.attribute_net import AttributeNet
from uniface_ray.evaluate.claims import VALUES

GENDERS = ["female", "male", None]


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "run", run_here)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, portraits: list[bytes]) -> Path:
    """Thirty faces with labels made up, a question each or two, and a prompt."""
    rows = [
        {
            "image": data,
            "gender": GENDERS[i % 3],
            "years": 20.0 + i,
            "smile": i % 2,
            "odd": "green",
            "caption": "a woman",
            "question": ["Is this a man?", "What colour is the hair?"][: 1 + i % 2],
            "answer": ["no", "brown"][: 1 + i % 2],
            "prompt": ["a smiling woman with red hair", "an older man", "somebody"][i % 3],
        }
        for i, data in enumerate(variations(portraits, 30))
    ]
    path = tmp_path_factory.mktemp("labelled") / "faces.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def few(random_model: Path) -> list[str]:
    """Settings of a small model that answers in a few words."""
    return [f"model.path={random_model}", "run.chunk_rows=8", "evaluate.resamples=100"]


def metrics_of(sink: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((sink / "metrics.json").read_text())
    return metrics


def rows_of(sink: Path) -> list[dict[str, Any]]:
    return pq.read_table(sink / "data/status=ok").to_pylist()


@pytest.mark.usefixtures("_here")
def test_captions_of_a_labelled_table(labelled: Path, few: list[str], tmp_path: Path) -> None:
    labels = "evaluate.labels=[gender,age_group:years,smile]"
    typed = [f"source.path={labelled}", "task.max_new_tokens=6", labels, "evaluate.reference_column=caption"]
    config = compose_evaluation([*few, *typed, f"sink.path={tmp_path}"])
    assert evaluate(config) == 0
    told = metrics_of(tmp_path)
    captions = [row["caption"] for row in rows_of(tmp_path / "run")]
    truths = [{"gender": row["given_gender"]} for row in rows_of(tmp_path / "run")]
    expected = agreement(captions, truths)["gender"]
    found = told["metrics"]["agreement.gender"]
    assert (found["known"], found["value"]) == (20, pytest.approx(expected.rate))
    assert told["metrics"]["agreement.age_group"]["known"] == 30
    assert told["metrics"]["rouge_l"]["known"] == 30
    assert told["rows"] == 30
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") == 20  # the ten best and the ten worst
    before = (tmp_path / "metrics.json").read_text()
    (tmp_path / "metrics.json").unlink()
    assert evaluate(config) == 0  # nothing is run again
    assert (tmp_path / "metrics.json").read_text() == before
    with pytest.raises(UserError, match=r"holds another run: source.keep_columns was"):
        evaluate(compose_evaluation([*few, *typed, "evaluate.labels=[gender]", f"sink.path={tmp_path}"]))


@pytest.mark.usefixtures("_here")
def test_answers_of_a_finished_run(labelled: Path, few: list[str], tmp_path: Path) -> None:
    asked = [f"source.path={labelled}", "source.question_column=question", "task.max_new_tokens=4", *few[:2]]
    kept = ["source.keep_columns=[answer]", "source.keep_prefix=right_"]
    run_here(compose("vqa", [*asked, *kept, f"sink.path={tmp_path}/run"]))
    typed = [few[2], f"evaluate.run={tmp_path}/run", "evaluate.answer_column=right_answer"]
    assert evaluate(compose_evaluation([*typed, f"sink.path={tmp_path}/evaluation"])) == 0
    told = metrics_of(tmp_path / "evaluation")
    answers = rows_of(tmp_path / "run")
    assert told["metrics"]["yes_no.accuracy"]["known"] == 30
    assert told["metrics"]["free.exact"]["known"] == 15
    free = [row for row in answers if row["question"].startswith("What")]
    right = sum(exact(row["answer"], ["brown"]) for row in free)
    assert told["metrics"]["free.exact"]["value"] == right / 15
    assert "one image or prompt" in " ".join(told["notes"])
    assert told["run"] == f"{tmp_path}/run"


@pytest.mark.usefixtures("_here")
def test_drawn_faces_with_a_judge_and_real_ones(
    labelled: Path, few: list[str], portraits: list[bytes], tmp_path: Path
) -> None:
    AttributeNet(VALUES).save(tmp_path / "judge")
    real = tmp_path / "real"
    real.mkdir()
    for number, data in enumerate(variations(portraits, 40, seed=1)):
        (real / f"{number}.jpg").write_bytes(data)
    typed = ["task=generate", "run=images", f"source.path={labelled}", "task.steps=2", "run.limit=24", *few]
    judges = [f"evaluate.judges=[{tmp_path}/judge]", f"evaluate.features={vit(tmp_path / 'vision')}"]
    sink = tmp_path / "evaluation"
    config = compose_evaluation([*typed, *judges, f"evaluate.real={real}", f"sink.path={sink}"])
    assert evaluate(config) == 0
    told = metrics_of(sink)
    assert told["features"] == "vision (vit)"
    assert told["metrics"]["agreement.hair_color"]["known"] == 8  # a third of the prompts speak of it
    assert told["metrics"]["agreement.gender"]["known"] == 16
    assert told["metrics"]["own_score"]["known"] == 24
    assert told["metrics"]["frechet_distance"]["missing"].startswith("there are 24 drawn and 40 real faces")
    assert told["metrics"]["kernel_distance"]["value"] is not None
    assert "data:image/jpeg" in (sink / "report.html").read_text()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ([], "nothing says what the captions are held against"),
        (["evaluate.labels=[mood]"], r"evaluate.labels has 'mood', but .*gender, age_group, smile, hair_color"),
        (["evaluate.labels=[gender:sex]"], r"evaluate.labels names 'sex', but the columns of .*faces.parquet are"),
        (["evaluate.reference_column=text"], r"evaluate.reference_column names 'text', but the columns"),
        (["task=vqa", "task.question=Is she?"], "nothing says what the right answers are: give evaluate.answer_column"),
        (["task=vqa", "task.question=Is she?", "evaluate.answer_column=right"], "evaluate.answer_column names 'right'"),
        (["task=generate", "evaluate.own_score=false"], "nothing says what the drawn faces are held against"),
        (["task=generate", "evaluate.judges=[/no/judge]"], r"evaluate.judges is '/no/judge', but there is no model"),
        (
            ["task=generate", "evaluate.real=/no/faces"],
            "evaluate.real cannot be read as a source of images",
        ),
        (["task=edit"], "task=edit: there is only"),
        (["task.guidance=3"], "task.guidance: there is no such setting"),
        (["evaluate.run=/no/run"], r"evaluate.run is '/no/run', a run that is done, and source.path would say"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    typed: list[str], told: str, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("evaluate", [f"source.path={labelled}", f"sink.path={tmp_path}/out", *typed]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_labels_that_no_judge_knows_are_told(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    AttributeNet({"gender": VALUES["gender"]}).save(tmp_path / "judge")
    typed = ["task=generate", f"evaluate.judges=[{tmp_path}/judge]", "evaluate.labels=[gender,smile]"]
    assert main("evaluate", [f"source.path={labelled}", f"sink.path={tmp_path}/out", *typed]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "evaluate.labels has smile, but the judges of evaluate.judges know gender alone: leave it out" in told


def test_a_run_that_cannot_be_evaluated_is_told(
    labelled: Path, few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*typed: str) -> str:
        assert main("evaluate", [*typed, f"sink.path={tmp_path}/out"]) == 2
        return capsys.readouterr().err

    assert "which holds no run (no manifest.json there)" in told(f"evaluate.run={tmp_path}")
    typed = [f"source.path={labelled}", f"sink.path={tmp_path}/a", "task.max_new_tokens=2"]
    run_here(compose("caption", [*typed, *few[:2]]))
    missing = told(f"evaluate.run={tmp_path}/a", "evaluate.labels=[gender]")
    assert "evaluate.labels names 'gender', but the columns of" in missing
    assert "that source.keep_columns carried along" in missing
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    (tmp_path / "a/manifest.json").write_text(json.dumps({**manifest, "state": "interrupted"}))
    assert "whose run is interrupted with 0 rows pending" in told(f"evaluate.run={tmp_path}/a")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_here")
def test_labels_that_mean_nothing_are_told(labelled: Path, few: list[str], tmp_path: Path) -> None:
    typed = [f"source.path={labelled}", "task.max_new_tokens=2", "evaluate.labels=[gender:odd]", *few]
    with pytest.raises(UserError, match=r"not one of 30 rows has a label; .*gender is 'green', but needs"):
        evaluate(compose_evaluation([*typed, f"sink.path={tmp_path}"]))


@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_the_whole_of_it_on_ray(
    labelled: Path, few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"source.path={labelled}", "task.max_new_tokens=4", "evaluate.labels=[gender,smile]", *few]
    assert main("evaluate", [*typed, f"sink.path={tmp_path}"]) == 0
    assert metrics_of(tmp_path)["metrics"]["agreement.smile"]["known"] == 30
    assert "smile: agreement" in capsys.readouterr().out
