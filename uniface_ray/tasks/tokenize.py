"""Tokenize: each image as the model sees it, with the texts about it; what training reads, made once."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind, Row
from uniface_ray.core.task_config import ENCODERS, TokenizeConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Encode
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of
from uniface_ray.tasks.pictures import encode_png

_TEXTS = {
    "captions": ("caption_column", FieldKind.TEXTS),
    "questions": ("question_column", FieldKind.TEXTS),
    "answers": ("answer_column", FieldKind.TEXTS),
    "conversation": ("conversation_column", FieldKind.CONVERSATION),
}


class Tokenize(Task):
    """Codes of an image, its captions, and its questions with their answers, in one output row.

    Raises:
        UserError: no column of texts; questions without answers, or the other way round.
    """

    name = "tokenize"
    headline = "{} images for training"
    text_column = "captions"

    def __init__(self, config: TokenizeConfig, source: SourceConfig) -> None:
        self.config = config
        if (source.question_column is None) != (source.answer_column is None):
            raise UserError(
                f"source.question_column is {source.question_column!r} and source.answer_column is "
                f"{source.answer_column!r}: they go together, give both or neither"
            )
        fields = [
            Field(name, kind, column, f"source.{setting}", optional=True)
            for name, (setting, kind) in _TEXTS.items()
            if (column := getattr(source, setting)) is not None
        ]
        if not fields:
            raise UserError(
                "nothing says what the images show: give source.caption_column=caption, source.conversation_column, or "
                "source.question_column with source.answer_column"
            )
        self.wanted = Wanted(fields=tuple(fields))
        texts = [(name, pa.list_(pa.string())) for name in ("captions", "questions", "answers")]
        seen = {"features": [(name, pa.binary()) for name in ENCODERS], "pixels": [("pixels", pa.binary())]}
        self.columns = pa.schema([("codes", pa.list_(pa.int32())), *texts, *seen.get(config.keep, [])])

    def work(self, row: Row, seed: int) -> Conversation:
        pixels = pixels_of(row)
        questions, answers = row.fields.get("questions") or [], row.fields.get("answers") or []
        if len(questions) != len(answers):
            what = f"the row has {len(questions)} questions and {len(answers)} answers: each needs the other"
            raise RejectError(RejectKind.BAD_REQUEST, what)
        pairs = row.fields.get("conversation") or []
        questions = [*questions, *(pair["question"] for pair in pairs)]
        answers = [*answers, *(pair["answer"] for pair in pairs)]
        captions = row.fields.get("captions") or []
        if not captions and not questions:
            raise RejectError(RejectKind.BAD_REQUEST, "the row has no caption and no question")
        (encoded,) = yield [Encode(pixels, features=self.config.keep == "features")]
        values: Values = {"codes": encoded.codes, "captions": captions, "questions": questions, "answers": answers}
        if self.config.keep == "pixels":
            values["pixels"] = encode_png(pixels)
        return [values | {name: features.tobytes() for name, features in encoded.features.items()}]

    def details(self, values: Values) -> str:
        pairs = zip(values["questions"], values["answers"], strict=True)
        return " · ".join(f"{question} {answer}" for question, answer in pairs)
