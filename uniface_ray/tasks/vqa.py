"""Visual question answering: one or several questions about each image, an output row for each."""

import json
from typing import Any

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.records import RejectError, RejectKind, Row
from uniface_ray.core.task_config import VqaConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of, seed_field, settled


class Vqa(Task):
    """Asks an image the questions of the settings, or those of its own row.

    Raises:
        UserError: no questions, or questions from two places.
    """

    name = "vqa"
    headline = "Answers about {} images"
    columns = pa.schema([("question", pa.string()), ("answer", pa.string())])
    own_words = True
    text_column = "answer"

    def __init__(self, config: VqaConfig, source: SourceConfig) -> None:
        self.config = config
        given = [*([config.question] if config.question else []), *config.questions]
        question = settled(
            Field("question", FieldKind.TEXTS, source.question_column, "source.question_column", given or None),
            "'task.question=Is she smiling?' or 'task.questions=[Is she smiling?,How old is she?]'",
        )
        self.wanted = Wanted(fields=(question, *seed_field(source)))

    def work(self, row: Row, seed: int) -> Conversation:
        pixels, questions = pixels_of(row), row.fields["question"]
        config, seed = self.config, row.fields.get("seed", seed)
        form: dict[str, Any] = {"choices": config.choices, "json_schema": config.json_schema}
        how = (config.max_new_tokens, seed, config.temperature, config.top_p)
        answers = yield [Ask(pixels, question, *how, **form) for question in questions]
        for answer in answers:
            _check_form(answer, config)
        return [{"question": q, "answer": a.text, "seed": seed} for q, a in zip(questions, answers, strict=True)]

    def details(self, values: Values) -> str:
        return str(values["question"])


def _check_form(answer: Text, config: VqaConfig) -> None:
    """A form may be cut at the most tokens allowed, and a server need not have kept to it."""
    if config.choices and answer.text not in config.choices:
        raise RejectError(RejectKind.MODEL_ERROR, f"the answer is {answer.text[:80]!r}, which is none of task.choices")
    if config.json_schema is not None:
        try:
            json.loads(answer.text)
        except ValueError as error:
            mend = ": raise task.max_new_tokens" if answer.tokens >= config.max_new_tokens else ""
            what = f"the answer is no whole JSON after {answer.tokens} tokens ({error}){mend}"
            raise RejectError(RejectKind.MODEL_ERROR, what) from error
