"""Rows through a task and an engine: the one loop that batch, online and the Python call share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uniface_ray.core.records import Reject, RejectError, Row, seed_of
from uniface_ray.engine.protocol import Engine, Request, Result
from uniface_ray.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one row: output rows, or a reject.

    Attributes:
        row: the row asked about.
        seed: its own seed.
        rows: the task's columns, one dict for each output row.
        reject: why there are none.
    """

    row: Row
    seed: int
    rows: list[dict[str, Any]]
    reject: Reject | None = None


def answer_rows(task: Task, engine: Engine, rows: Sequence[Row], run_seed: int) -> list[Answer]:
    """Ask `engine` what `task` wants to know of each row; rows that came rejected stay so.

    All requests of all rows go to the engine in one call, so it fills its batches whatever each row asks for.
    """
    seeds = [seed_of(run_seed, row.ref.row_id) for row in rows]
    requests: list[Request] = []
    asked: list[int | Reject] = []
    for row, seed in zip(rows, seeds, strict=True):
        try:
            of_row = [] if row.reject else task.ask(row, seed)
            asked.append(row.reject or len(of_row))
            requests += of_row
        except RejectError as error:
            asked.append(error.at("ask"))
    outcomes = iter(engine.run(requests))
    return [
        _tell(task, row, seed, [next(outcomes) for _ in range(count)] if isinstance(count, int) else count)
        for row, seed, count in zip(rows, seeds, asked, strict=True)
    ]


def _tell(task: Task, row: Row, seed: int, outcome: list[Result | Reject] | Reject) -> Answer:
    if isinstance(outcome, Reject):
        return Answer(row, seed, [], outcome)
    rejects = [one for one in outcome if isinstance(one, Reject)]
    if rejects:
        return Answer(row, seed, [], rejects[0])
    return Answer(row, seed, task.tell(row, [one for one in outcome if isinstance(one, Result)]))
