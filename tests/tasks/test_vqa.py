"""Several questions about one image, and conversations of several rounds."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from uniface_ray.batch.chunk import Chunk, pack_answers, unpack_answers
from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject, RejectKind, Row, RowRef, child_id_of
from uniface_ray.core.task_config import VqaConfig
from uniface_ray.data.wanted import Wanted
from uniface_ray.engine.protocol import Ask, Request, Result, Text
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.base import Conversation, pixels_of
from uniface_ray.tasks.vqa import Vqa


class Echo:
    """An engine that counts its calls, says what it was asked in capitals, and does not know what `bad` is."""

    image_size = 2

    def __init__(self) -> None:
        self.calls: list[int] = []

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        self.calls.append(len(requests))
        bad = Reject(RejectKind.MODEL_ERROR, "what?", "engine")
        return [bad if one.question == "bad" else Text(one.question.upper(), 1) for one in requests if type(one) is Ask]


def row(row_id: int, *questions: str) -> Row:
    return Row(RowRef(row_id, "a"), pixels=np.zeros((3, 2, 2), np.uint8), fields={"question": list(questions)})


def source(**columns: str) -> SourceConfig:
    return SourceConfig(path="x", **columns)


def test_each_question_has_an_output_row_that_knows_its_parent() -> None:
    task, engine = Vqa(VqaConfig(), source(question_column="q")), Echo()
    rows = [row(1, "a", "b", "c"), row(2, "d"), row(3, "e", "bad")]
    answers = answer_rows(task, engine, rows, run_seed=0)
    assert engine.calls == [6]
    sent = pack_answers(Chunk(0, rows), answers, task, "tiny", pa.schema([]))
    out = unpack_answers(sent, task)
    assert [(r["row_id"], r["parent_id"], r["question"], r["answer"]) for r in out.ok.to_pylist()] == [
        (child_id_of(1, 0), 1, "a", "A"),
        (child_id_of(1, 1), 1, "b", "B"),
        (child_id_of(1, 2), 1, "c", "C"),
        (2, None, "d", "D"),
    ]
    (reject,) = out.rejected.to_pylist()
    assert (reject["row_id"], reject["error_message"]) == (3, "request 2 of 2: what?")


def test_rows_talk_on_together_until_each_has_ended() -> None:
    class Twice(Vqa):
        def work(self, row: Row, seed: int) -> Conversation:
            pixels, (question, *more) = pixels_of(row), row.fields["question"]
            (first,) = yield [Ask(pixels, question, 1)]
            for _ in more:
                (first,) = yield [Ask(pixels, first.text + "!", 1)]
            return [{"question": question, "answer": first.text}]

    task, engine = Twice(VqaConfig(), source(question_column="q")), Echo()
    rows = [row(1, "a"), row(2, "b", "", ""), row(3, "bad", ""), row(4, "d", ""), Row(RowRef(5, "a"))]
    answers = answer_rows(task, engine, rows, run_seed=0)
    assert engine.calls == [4, 2, 1]
    assert [one.rows[0]["answer"] if one.rows else None for one in answers] == ["A", "B!!", None, "D!", None]
    assert [one.reject.message for one in answers if one.reject] == ["what?", "the row has no image"]


def test_a_row_may_bring_its_own_seed() -> None:
    asked: list[Ask] = []

    class Listening(Echo):
        def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
            asked.extend(one for one in requests if type(one) is Ask)
            return super().run(requests)

    task = Vqa(VqaConfig(temperature=0.5, top_p=0.9), source(question_column="q", seed_column="s"))
    own = row(1, "a", "b")
    own.fields["seed"] = 7
    (answer,) = answer_rows(task, Listening(), [own], run_seed=0)
    assert [(one.seed, one.temperature, one.top_p) for one in asked] == [(7, 0.5, 0.9)] * 2
    assert [one["seed"] for one in answer.rows] == [7, 7]


def test_questions_come_from_one_place() -> None:
    def wanted(config: VqaConfig, **columns: str) -> Wanted:
        return Vqa(config, source(**columns)).wanted

    assert wanted(VqaConfig(question="a?", questions=("b?",))).given == {"question": ["a?", "b?"]}
    assert wanted(VqaConfig(), question_column="q").columns(source()) == [("source.question_column", "q")]
    with pytest.raises(UserError, match=r"no question: give 'task.question=.* or source.question_column"):
        wanted(VqaConfig())
    with pytest.raises(
        UserError, match=r"source.question_column is 'q', and the settings .* give the question .*'a\?'.*leave one"
    ):
        wanted(VqaConfig(question="a?"), question_column="q")


@pytest.mark.parametrize(
    ("form", "good", "bad", "told"),
    [
        ({"choices": ("YES", "NO")}, "no", "maybe", "the answer is 'MAYBE', which is none of task.choices"),
        (
            {"json_schema": "{}"},
            "[1]",
            '{"a": ',
            "the answer is no whole JSON after 1 tokens .*: raise task.max_new_tokens",
        ),
    ],
)
def test_answers_whose_form_is_not_kept_are_rejected(form: dict[str, object], good: str, bad: str, told: str) -> None:
    task = Vqa(VqaConfig(max_new_tokens=1, **form), source(question_column="q"))
    fine, broken = answer_rows(task, Echo(), [row(1, good), row(2, good, bad)], run_seed=0)
    assert fine.rows == [{"question": good, "answer": good.upper(), "seed": fine.seed}]
    assert broken.reject is not None
    assert broken.reject.kind == RejectKind.MODEL_ERROR
    assert re.search(told, broken.reject.message)
