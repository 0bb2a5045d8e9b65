"""Visual question answering: one or several questions about each image, an output row for each."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.records import Row
from uniface_ray.core.task_config import VqaConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Ask
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of, settled


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
        self.wanted = Wanted(fields=(question,))

    def work(self, row: Row, seed: int) -> Conversation:
        pixels, questions = pixels_of(row), row.fields["question"]
        answers = yield [Ask(pixels, question, self.config.max_new_tokens, seed) for question in questions]
        return [{"question": q, "answer": a.text} for q, a in zip(questions, answers, strict=True)]

    def details(self, values: Values) -> str:
        return str(values["question"])
