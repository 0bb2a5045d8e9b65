"""Rows through a task and an engine."""

from collections.abc import Sequence

import numpy as np
import pytest

from uniface_ray.core.records import Reject, RejectKind, Row, RowRef, row_id_of, seed_of
from uniface_ray.core.task_config import CaptionConfig
from uniface_ray.engine.protocol import Ask, Request, Result, Text
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.caption import Caption


class Echo:
    """An engine that says what it was asked, and refuses black pictures."""

    image_size = 2

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        return [
            Text(f"{request.question} {request.pixels.max()} {request.seed}", tokens=1)
            if isinstance(request, Ask) and request.pixels.any()
            else Reject(RejectKind.MODEL_ERROR, "black", "engine")
            for request in requests
        ]


def row(position: int, value: int | None, reject: Reject | None = None) -> Row:
    pixels = None if value is None else np.full((3, 2, 2), value, np.uint8)
    return Row(RowRef(row_id_of("a", position), "a"), pixels=pixels, reject=reject)


@pytest.fixture
def task() -> Caption:
    return Caption(CaptionConfig(question="who?", max_new_tokens=5))


def test_every_row_gets_its_own_outcome(task: Caption) -> None:
    known = Reject(RejectKind.NOT_FOUND, "gone", "read")
    rows = [row(0, 7), row(1, None, known), row(2, 0), row(3, None), row(4, 9)]
    answers = answer_rows(task, Echo(), rows, run_seed=3)
    seeds = [seed_of(3, one.ref.row_id) for one in rows]
    assert [answer.row for answer in answers] == rows
    assert answers[0].rows == [{"caption": f"who? 7 {seeds[0]}"}]
    assert answers[4].rows == [{"caption": f"who? 9 {seeds[4]}"}]
    assert answers[1].reject is known
    assert [answers[i].reject.stage for i in (2, 3) if answers[i].reject] == ["engine", "ask"]
    assert not any(answers[i].rows for i in (1, 2, 3))


def test_seeds_and_ids_depend_on_what_they_are_said_to() -> None:
    assert row_id_of("a", 1) == row_id_of("a", 1)
    ids = {row_id_of(path, position) for path in "abc" for position in range(1000)}
    assert len(ids) == 3000
    assert all(0 <= one < 2**63 for one in ids)
    assert seed_of(0, 1) == seed_of(0, 1)
    assert len({seed_of(run, one) for run in range(3) for one in ids}) == 9000
