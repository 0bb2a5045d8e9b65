"""Measure: an output row of another run, held against what is known of it; a step of `uniface evaluate`."""

import json
from contextlib import suppress
from typing import Any

import pyarrow as pa

from uniface_ray.core.records import RejectError, RejectKind, Row, child_id_of
from uniface_ray.core.task_config import ENCODERS, MeasureConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Encode, Look, Request, Score
from uniface_ray.evaluate.claims import VALUES
from uniface_ray.evaluate.measures import columns_of, measure_answer, measure_caption, measure_drawing
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of

_RUN = {"run_row": "row_id", "run_parent": "parent_id", "run_uri": "uri"}


class Measure(Task):
    """Measures captions and answers by their words; drawn faces by a judge, by the model, and by features."""

    name = "measure"
    headline = "Measures of {} rows"
    text_column = "text"

    def __init__(self, config: MeasureConfig) -> None:
        self.config = config
        of = config.of
        attributes = list(config.labels or (VALUES if of == "drawings" else ()))
        run = () if of == "faces" else (_field(name, column, "evaluate.run") for name, column in _RUN.items())
        others = {"text": (config.text_column, "evaluate.run"), "right": (config.right_column, _right_setting(of))}
        others |= {"question": ("question", "evaluate.run")} if of == "answers" else {}
        others |= {"cut": ("prompt_cut", "evaluate.run")} if of == "drawings" else {}
        self.wanted = Wanted(
            image=of in ("drawings", "faces"),
            fields=(
                *run,
                *(_field(name, column, setting) for name, (column, setting) in others.items() if column),
                *(_field(f"label_{name}", column, "evaluate.labels") for name, column in config.labels.items()),
            ),
        )
        ids = [] if of == "faces" else [("run_row", pa.int64()), ("run_key", pa.int64()), ("run_uri", pa.string())]
        self.columns = pa.schema([*ids, *columns_of(of, attributes)])

    def work(self, row: Row, seed: int) -> Conversation:
        given = {name: json.loads(value) for name, value in row.fields.items()}
        values: Values = {"text": row.ref.uri}
        if self.config.of != "faces":
            parent = given["run_parent"]
            key = given["run_row"] if parent is None else parent
            values = {"run_row": given["run_row"], "run_key": key, "run_uri": given["run_uri"]}
        labels = {name: given[f"label_{name}"] for name in self.config.labels}
        match self.config.of:
            case "captions":
                return [values | measure_caption(given["text"] or "", labels, _texts(given.get("right")))]
            case "answers":
                return [values | measure_answer(given["question"], given["text"] or "", _right(given))]
        features = yield from self._features(row)
        if self.config.of == "faces":
            return [values | {"features": features}]
        prompt = given["text"].removesuffix(given["cut"] or "")
        requests: list[Request] = [Look(pixels_of(row))] if self.config.judges else []
        requests += [Score(pixels_of(row), prompt)] if self.config.own_score else []
        results = (yield requests) if requests else []
        chances = results[0].chances if self.config.judges else {}
        own = results[-1].score if self.config.own_score else None
        return [values | measure_drawing(prompt, labels or None, chances, own, features)]

    def _features(self, row: Row) -> Any:
        """(D,) floats: of a vision model as it gives them, of the model's own encoders the mean of all patches."""
        name = self.config.features
        if name is None:
            return None
        if name not in ENCODERS:
            (seen,) = yield [Look(pixels_of(row))]
            return seen.features
        (encoded,) = yield [Encode(pixels_of(row), features=True)]
        return encoded.features[name].astype("float32").mean(axis=0)

    def details(self, values: Values) -> str:
        score = values.get("score")
        return "" if score is None else f"score {score:.2f} · {values['right']}"


def _field(name: str, column: str, setting: str) -> Field:
    return Field(name, FieldKind.VALUE, column, setting)


def _right_setting(of: str) -> str:
    return "evaluate.answer_column" if of == "answers" else "evaluate.reference_column"


def _texts(value: Any) -> list[str]:
    """A text, a list of texts, or that list as JSON text, as tables of text carry it."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    texts = value if isinstance(value, list) else [value]
    return [str(text) for text in texts if text is not None and str(text).strip()]


def _right(given: dict[str, Any]) -> list[str]:
    """The right answers of this row's question: any of those that are given for a single question; several questions
    of an image have as many answers, one each.

    Raises:
        RejectError: there is none, or nobody can tell which it is.
    """
    answers = _texts(given["right"])
    if len(answers) > 1 and given["run_parent"] is not None:
        children = [child_id_of(given["run_parent"], index) for index in range(len(answers))]
        if given["run_row"] not in children:
            what = f"the row has {len(answers)} right answers, and its image not as many questions"
            raise RejectError(RejectKind.BAD_REQUEST, what)
        answers = [answers[children.index(given["run_row"])]]
    if not answers:
        raise RejectError(RejectKind.BAD_REQUEST, "the row has no right answer")
    return answers


__all__ = ["Measure"]
