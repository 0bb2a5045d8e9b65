"""Rows together: counts, intervals of rows that belong together, the best and the worst, numbers and the page."""

import json
import math
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.evaluate.agreement import agreement
from uniface_ray.core.records import child_id_of
from uniface_ray.core.report_data import Sample
from uniface_ray.evaluate.findings import Number, document, numbers_of, to_json
from uniface_ray.evaluate.intervals import Estimate
from uniface_ray.evaluate.measures import columns_of, measure_answer, measure_caption, measure_drawing
from uniface_ray.evaluate.page import Evaluation, render
from uniface_ray.evaluate.summary import Summary

CAPTIONS = [
    ("A young woman is smiling.", {"gender": "female", "smile": "yes"}),
    ("A man looks serious.", {"gender": "female", "smile": "no"}),
    ("A person.", {"gender": "male", "smile": "yes"}),
    ("A man, smiling.", {"gender": None, "smile": "yes"}),
]


def table(kind: str, rows: list[dict[str, Any]], attributes: tuple[str, ...] = (), keys: Any = None) -> pa.Table:
    schema = columns_of(kind, attributes)
    columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in schema}
    ids = list(range(1, len(rows) + 1))
    uris = ["s3://b/faces.parquet"] * len(rows)  # the images lie in the table
    return pa.table({"run_row": ids, "run_key": ids if keys is None else keys, "run_uri": uris, **columns})


def captions(times: int = 1) -> pa.Table:
    rows = [measure_caption(text, labels, ["A woman."]) for text, labels in CAPTIONS * times]
    return table("captions", rows, ("gender", "smile"))


def test_captions_are_counted_as_agreement_counts_them() -> None:
    summary = Summary("captions", ("gender", "smile"), resamples=100)
    summary.add(captions())
    numbers = {number.name: number.estimate for number in numbers_of(summary)}
    meanings = {number.name: number.meaning for number in numbers_of(summary)}
    assert "silence counts as wrong" in meanings["agreement.gender"]
    assert "no word of one is the claim that there is none" in meanings["agreement.smile"]
    assert "claimed.smile" not in numbers
    for name, counted in agreement(*zip(*CAPTIONS, strict=True)).items():
        if counted.known:
            found = numbers[f"agreement.{name}"]
            assert found is not None
            assert (found.value, found.known) == (counted.rate, counted.known)
            assert (found.low, found.high) == counted.interval
    claimed = numbers["claimed.gender"]
    assert claimed is not None
    assert claimed.value == pytest.approx(2 / 3)
    assert {"bleu", "chrf", "rouge_l"} < set(numbers)
    assert summary.confusion["gender"] == {("female", "female"): 1, ("female", "male"): 1, ("male", "nothing"): 1}


def test_order_and_cuts_change_nothing() -> None:
    rows = captions(20)
    whole, parts = (Summary("captions", ("gender", "smile"), resamples=100, samples=3) for _ in range(2))
    whole.add(rows)
    order = random.Random(0).sample(range(80), 80)
    for cut in np.array_split(order, 7):
        parts.add(rows.take(cut))
    assert json.loads(to_json(document(numbers_of(whole), whole))) == json.loads(
        to_json(document(numbers_of(parts), parts))
    )
    assert whole.extremes.rows(whole.extremes.best) == parts.extremes.rows(parts.extremes.best)
    assert [row["score"] for row in whole.extremes.rows(whole.extremes.worst)] == [0, 0, 0]
    assert [row["score"] for row in whole.extremes.rows(whole.extremes.best)] == [1, 1, 1]


def answers(said: str, right: list[str], keys: Any = None) -> Summary:
    summary = Summary("answers", (), resamples=400)
    summary.add(table("answers", [measure_answer("Is it?", said, [one]) for one in right], keys=keys))
    return summary


def test_who_always_says_yes_is_half_right() -> None:
    summary = answers("Yes.", ["yes"] * 90 + ["no"] * 10)
    found = {number.name: number.estimate for number in numbers_of(summary)}
    values = {name: one.value for name, one in found.items() if one}
    assert values["yes_no.accuracy"] == 0.9
    assert values["yes_no.balanced_accuracy"] == 0.5
    assert values["yes_no.said_yes"] == 1
    assert values["yes_no.right_yes"] == 0.9
    assert summary.confusion["yes_no"] == {("yes", "yes"): 90, ("no", "yes"): 10}


def test_questions_of_one_image_are_no_independent_trials() -> None:
    rows = [child_id_of(image, index) for image in range(1, 41) for index in range(10)]
    right = [("yes" if image % 2 else "no") for image in range(40) for _ in range(10)]
    summary = Summary("answers", (), resamples=400)
    asked = table("answers", [measure_answer("Is it?", "Yes.", [one]) for one in right])
    keys = [image for image in range(1, 41) for _ in range(10)]
    summary.add(asked.set_column(0, "run_row", pa.array(rows)).set_column(1, "run_key", pa.array(keys)))
    found = {number.name: number.estimate for number in numbers_of(summary)}
    accuracy, said = found["yes_no.accuracy"], found["yes_no.said_yes"]
    assert accuracy is not None
    assert said is not None
    assert (accuracy.method, accuracy.value) == ("bootstrap", 0.5)
    assert accuracy.high - accuracy.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.2)  # 400 trials: a third
    assert (said.method, said.value, said.high) == ("wilson", 1, 1)
    assert said.low == pytest.approx(40 / (40 + 1.96**2))  # of 40 images, not 400 answers


@pytest.mark.parametrize("by_prompt", [False, True])
def test_rows_of_a_source_that_share_an_image_or_a_prompt_belong_together(by_prompt: bool) -> None:
    rows = []
    for number in range(400):
        wish, prompt = ("female", "a woman") if number % 40 < 20 else ("male", "a man")
        chances = {"gender": {"female": 0.7, "male": 0.3}}
        rows.append(measure_drawing(f"{prompt} {number % 40}", {"gender": wish}, chances, None, None))
    measured = table("drawings", rows, ("gender",))
    uris = pa.array([f"https://host/{number % 40}" for number in range(400)])
    summary = Summary("drawings", ("gender",), resamples=400, by_prompt=by_prompt)
    if not by_prompt:
        measured = measured.set_column(measured.column_names.index("run_uri"), "run_uri", uris)
    summary.add(measured.slice(0, 150))
    summary.add(measured.slice(150))
    assert (summary.keys, summary.alone) == (40, False)
    found = summary.share("gender_agreed", "gender_known")
    assert (found.method, found.value) == ("bootstrap", 0.5)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.2)  # 400 trials: a third


def drawings(count: int) -> Summary:
    summary = Summary("drawings", ("gender",), resamples=100)
    draw = np.random.default_rng(0)
    chances = {"gender": {"female": 0.7, "male": 0.3}}
    labels = {"gender": "female"}
    seen = [(float(draw.random()), draw.normal(size=3)) for _ in range(count)]
    rows = [measure_drawing("a woman", labels, chances, score, features) for score, features in seen]
    summary.add(table("drawings", rows, ("gender",)))
    return summary


def faces(count: int) -> Summary:
    summary = Summary("faces", (), resamples=100)
    features = list(np.random.default_rng(1).normal(1, 1, size=(count, 3)).astype(np.float32))
    summary.add(pa.table({"row_id": range(count), "features": features}))
    return summary


def test_drawn_faces_are_compared_with_real_ones_where_there_are_enough() -> None:
    real = faces(400).cloud
    found = {number.name: number for number in numbers_of(drawings(400), real, "toy's semantic encoder")}
    distance = found["frechet_distance"]
    assert distance.estimate is not None
    assert distance.estimate.value == pytest.approx(3, abs=0.7)
    assert "toy's semantic encoder" in distance.meaning
    assert "not FID" in distance.meaning
    assert found["kernel_distance"].estimate is not None
    few = {number.name: number for number in numbers_of(drawings(12), real, "toy")}
    assert few["frechet_distance"].estimate is None
    assert few["frechet_distance"].missing == (
        "there are 12 drawn and 400 real faces, and a covariance of 3 features needs 15 of each"
    )
    assert "needs 20 of each" in few["kernel_distance"].missing
    text = to_json(document(list(few.values()), drawings(12)))
    assert json.loads(text)["metrics"]["frechet_distance"]["value"] is None


def test_the_page_tells_numbers_confusions_and_both_sheets() -> None:
    summary = drawings(30)
    alone = Number("apart", "apart", Estimate(2.5, math.nan, math.nan, 30, "none"), "of one prompt", bounded=False)
    numbers = [*numbers_of(summary, faces(30).cloud, "toy"), alone]
    page = render(
        Evaluation(
            title="Evaluation of 30 drawings",
            kind="drawings",
            model="<toy>",
            run="/run",
            sink="/sink",
            numbers=numbers,
            attributes=("gender",),
            confusion=summary.confusion,
            own_scores=summary.own_scores,
            best=[Sample(1, "/faces/best.jpg", "a <b>woman</b>", (), "score 0.70")],
            worst=[Sample(2, "/faces/worst.jpg", "a woman", (b"jpeg",), "score 0.70")],
            config={"seed": 0},
            versions={"python": "3"},
            notes=["The model scores itself."],
        )
    )
    assert page.startswith("<!doctype html>")
    for told in ("gender: agreement", "100.0 %", "The model scores itself.", "best.jpg", "worst.jpg", "wom[ae]n"):
        assert told in page
    assert '>2.5</td><td class="number">—</td>' in page
    assert "a &lt;b&gt;woman&lt;/b&gt;" in page
    assert "&lt;toy&gt;" in page
    assert "<script" not in page
