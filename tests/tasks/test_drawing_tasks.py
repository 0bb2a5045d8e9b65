"""Generate, edit and score over an engine that draws its seed."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject, RejectKind, Row, RowRef, seed_of
from uniface_ray.core.task_config import EditConfig, GenerateConfig, ScoreConfig
from uniface_ray.engine.protocol import Draw, Drawing, Likelihood, Request, Result, Score
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.edit import Edit
from uniface_ray.tasks.generate import Generate
from uniface_ray.tasks.score import Score as ScoreTask


class Painter:
    """Paints an image in the colour of its seed; scores an image by how bright it is; cannot paint `bad`."""

    image_size = 2

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        return [self.outcome(request) for request in requests]

    def outcome(self, request: Request) -> Result | Reject:
        match request:
            case Draw(prompt="bad"):
                return Reject(RejectKind.MODEL_ERROR, "no such colour", "engine")
            case Draw():
                return Drawing(np.full((3, 2, 2), request.seed % 256, np.uint8), request.prompt[9:])
            case Score():
                bright = float(request.pixels[0, 0, 0]) / 255
                return Likelihood(bright, bright - 1, -bright)
        raise AssertionError(request)


def source(**columns: str | None) -> SourceConfig:
    return SourceConfig(path="x", **columns)


def generate(prompts: list[str], **settings: Any) -> list[list[dict[str, Any]] | str]:
    task = Generate(GenerateConfig(**settings), source(prompt_column="prompt"), "tiny")
    rows = [Row(RowRef(number, "a"), fields={"prompt": prompt}) for number, prompt in enumerate(prompts)]
    answers = answer_rows(task, Painter(), rows, run_seed=7)
    for answer in answers:
        for values in answer.rows:
            assert {*task.columns.names} <= {*values}
            assert task.details(values)
    return [answer.reject.message if answer.reject else answer.rows for answer in answers]


def colour(values: dict[str, Any]) -> int:
    return int(np.asarray(Image.open(io.BytesIO(values["image"])))[0, 0, 0])


def test_every_image_has_a_seed_of_its_own_row_and_number() -> None:
    drawn = generate(["one", "two of a long name"], images_per_prompt=3)
    for number, images in enumerate(drawn):
        seeds = [seed_of(seed_of(7, number), index) for index in range(3)]
        assert [values["seed"] for values in images] == seeds
        assert [colour(values) for values in images] == [seed % 256 for seed in seeds]
        assert [values["index"] for values in images] == [0, 1, 2]
    assert drawn[0] == generate(["one"], images_per_prompt=3)[0]
    assert {values["prompt_cut"] for values in drawn[0]} == {None}
    assert {values["prompt_cut"] for values in drawn[1]} == {"long name"}


def test_one_image_that_fails_rejects_its_prompt_as_a_whole() -> None:
    good, bad = generate(["good", "bad"], images_per_prompt=2)
    assert len(good) == 2
    assert bad == "request 1 of 2: no such colour"


def test_the_best_of_several_is_kept_with_all_scores() -> None:
    (images,) = generate(["one"], images_per_prompt=2, best_of=3)
    seeds = [seed_of(seed_of(7, 0), number) for number in range(6)]
    for values, tries in zip(images, (seeds[:3], seeds[3:]), strict=True):
        assert values["seeds"] == tries
        assert values["scores"] == [seed % 256 / 255 for seed in tries]
        assert values["score"] == max(values["scores"])
        assert values["seed"] == max(tries, key=lambda seed: seed % 256)
        assert colour(values) == values["seed"] % 256


@pytest.mark.parametrize(("form", "suffix"), [("png", "png"), ("jpeg", "jpg")])
def test_files_are_named_by_row_and_number(form: str, suffix: str) -> None:
    (images,) = generate(["one"], images_per_prompt=2, files=True, format=form)
    assert [values["file"] for values in images] == [f"files/000/0-{index}.{suffix}" for index in range(2)]
    assert Image.open(io.BytesIO(images[0]["image"])).format == form.upper()


def test_an_edit_draws_into_its_image() -> None:
    task = Edit(EditConfig(prompt="x", box=(0, 0, 1, 0.5)), source(), "tiny")
    assert task.wanted.given == {"prompt": "x", "box": [0, 0, 1, 0.5]}
    pixels, mask = np.zeros((3, 2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    rows = [Row(RowRef(1, "a"), pixels=pixels, mask=one, fields={"prompt": "x"}) for one in (mask, None)]
    talk = task.work(rows[0], 5)
    (request,) = next(talk)
    assert (request.pixels is pixels, request.mask is mask, request.seed) == (True, True, 5)
    good, bad = answer_rows(task, Painter(), rows, run_seed=0)
    assert "compositeWithTrainedAlgorithmicMedia" in str(good.rows[0]["image"])
    assert bad.reject is not None
    assert bad.reject.message == "the row has no mask"


def test_a_score_for_each_text() -> None:
    task = ScoreTask(ScoreConfig(), source(text_column="t"))
    pixels = np.full((3, 2, 2), 51, np.uint8)
    (answer,) = answer_rows(task, Painter(), [Row(RowRef(1, "a"), pixels=pixels, fields={"text": ["a", "b"]})], 0)
    scores = {"score": 0.2, "log_p_yes": pytest.approx(-0.8), "log_p_no": -0.2}
    assert answer.rows == [{"text": "a", **scores}, {"text": "b", **scores}]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Generate(GenerateConfig(), source(), "m"), "source.prompt_column is null"),
        (lambda: Edit(EditConfig(box=(0, 0, 1, 1)), source(), "m"), "no prompt: give 'task.prompt="),
        (lambda: Edit(EditConfig(prompt="x"), source(), "m"), "nothing says which region"),
        (
            lambda: Edit(EditConfig(prompt="x", box=(0, 0, 1, 1)), source(mask_column="m"), "m"),
            r"source.mask_column=m and task.box=\[0.0, 0.0, 1.0, 1.0\] says which region",
        ),
        (lambda: ScoreTask(ScoreConfig(), source()), "no text: give 'task.text="),
        (lambda: ScoreTask(ScoreConfig(text="x"), source(text_column="t")), "source.text_column is 't', and"),
    ],
)
def test_what_is_missing_or_given_twice_is_told(build: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build()
