"""Score: how well each image and a text fit, by the model's own probability of saying so (VQAScore's way)."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.records import Row
from uniface_ray.core.task_config import ScoreConfig
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Score as Request
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of, settled


class Score(Task):
    """Scores an image against the text of the settings, or the texts of its own row, an output row for each.

    Raises:
        UserError: no text, or texts from two places.
    """

    name = "score"
    headline = "Scores of {} images"
    columns = pa.schema(
        [("text", pa.string()), ("score", pa.float32()), ("log_p_yes", pa.float32()), ("log_p_no", pa.float32())]
    )
    text_column = "text"

    def __init__(self, config: ScoreConfig, source: SourceConfig) -> None:
        given = [config.text] if config.text else None
        text = settled(
            Field("text", FieldKind.TEXTS, source.text_column, "source.text_column", given),
            "'task.text=a smiling woman'",
        )
        self.wanted = Wanted(fields=(text,))

    def work(self, row: Row, seed: int) -> Conversation:
        pixels, texts = pixels_of(row), row.fields["text"]
        found = yield [Request(pixels, text) for text in texts]
        return [
            {"text": text, "score": one.score, "log_p_yes": one.log_yes, "log_p_no": one.log_no}
            for text, one in zip(texts, found, strict=True)
        ]

    def details(self, values: Values) -> str:
        return f"score {values['score']:.3f}"
