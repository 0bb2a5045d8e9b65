"""Which answers are right ones of an output row."""

import json
from typing import Any

import pytest

from uniface_ray.core.records import RejectError, Row, RowRef, child_id_of
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.tasks.measure import Measure


def measured(row_id: int, parent: int | None, answer: str, right: Any) -> dict[str, Any]:
    """What becomes of an answer in an output row."""
    task = Measure(MeasureConfig(of="answers", text_column="answer", right_column="right"))
    given = {"run_row": row_id, "run_parent": parent, "run_uri": "a.jpg", "text": answer, "question": "What?"}
    row = Row(RowRef(9, "a"), fields={name: json.dumps(value) for name, value in {**given, "right": right}.items()})
    with pytest.raises(StopIteration) as stopped:
        next(task.work(row, 0))
    return dict(stopped.value.value[0])


def test_any_of_several_answers_to_a_single_question_is_right() -> None:
    found = measured(7, None, "Blond.", ["fair", "blond"])
    assert (found["exact"], found["right"]) == (True, "fair or blond")
    assert not measured(7, None, "red", ["fair", "blond"])["exact"]
    assert measured(7, None, "blond", "blond")["exact"]


def test_of_several_questions_each_has_an_answer() -> None:
    first, second = child_id_of(7, 0), child_id_of(7, 1)
    assert measured(first, 7, "yes", ["yes", "red"])["right"] == "yes"
    assert measured(second, 7, "red", ["yes", "red"])["exact"]
    with pytest.raises(RejectError, match="the row has 2 right answers, and its image not as many questions"):
        measured(child_id_of(7, 2), 7, "red", ["yes", "red"])
