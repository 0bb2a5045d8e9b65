"""Rows through a task and an engine: the one loop that batch, online and the Python calls share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from uniface_ray.core.records import Reject, RejectError, Row, seed_of
from uniface_ray.engine.protocol import Answers, Request, Result
from uniface_ray.tasks.base import Conversation, Task, Values


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
    rows: list[Values]
    reject: Reject | None = None


@dataclass(slots=True)
class _Talk:
    """A row's conversation with the engine: what it asks now, or how it ended."""

    conversation: Conversation
    requests: list[Request] = field(default_factory=list)
    rows: list[Values] = field(default_factory=list)
    reject: Reject | None = None

    def go_on(self, results: list[Result] | None) -> None:
        """Hear `results` (None at the beginning), and ask on or end."""
        self.requests = []
        try:
            self.requests = next(self.conversation) if results is None else self.conversation.send(results)
        except StopIteration as end:
            self.rows = end.value
        except RejectError as error:
            self.reject = error.at("ask")

    def hear(self, outcomes: Sequence[Result | Reject]) -> None:
        """Go on with the outcomes of `requests`; one that failed ends it."""
        for number, outcome in enumerate(outcomes, 1):
            if isinstance(outcome, Reject):
                which = f"request {number} of {len(outcomes)}: " if len(outcomes) > 1 else ""
                self.reject = replace(outcome, message=which + outcome.message)
                self.requests = []
                self.conversation.close()
                return
        self.go_on([one for one in outcomes if not isinstance(one, Reject)])


def answer_rows(task: Task, engine: Answers, rows: Sequence[Row], run_seed: int) -> list[Answer]:
    """Ask `engine` what `task` wants to know of each row; rows that came rejected stay so.

    What all rows ask at a time goes to the engine in one call, so it fills its batches whatever each row asks for.
    """
    seeds = [seed_of(run_seed, row.ref.row_id) for row in rows]
    talks = [None if row.reject else _Talk(task.work(row, seed)) for row, seed in zip(rows, seeds, strict=True)]
    for talk in talks:
        if talk:
            talk.go_on(None)
    while asking := [talk for talk in talks if talk and talk.requests]:
        outcomes = iter(engine.run([request for talk in asking for request in talk.requests]))
        for talk in asking:
            talk.hear([next(outcomes) for _ in talk.requests])
    return [
        Answer(row, seed, talk.rows, talk.reject) if talk else Answer(row, seed, [], row.reject)
        for row, seed, talk in zip(rows, seeds, talks, strict=True)
    ]
