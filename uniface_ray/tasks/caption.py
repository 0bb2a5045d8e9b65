"""Caption: one description of each image."""

import pyarrow as pa

from uniface_ray.core.records import Row
from uniface_ray.core.task_config import CaptionConfig
from uniface_ray.data.wanted import IMAGES
from uniface_ray.engine.protocol import Ask
from uniface_ray.tasks.base import Conversation, Task, Values, pixels_of


class Caption(Task):
    """Asks every image the same question and keeps the answer as `caption`."""

    name = "caption"
    headline = "Captions of {} images"
    wanted = IMAGES
    columns = pa.schema([("caption", pa.string())])
    own_words = True
    text_column = "caption"

    def __init__(self, config: CaptionConfig) -> None:
        self.config = config

    def work(self, row: Row, seed: int) -> Conversation:
        (answer,) = yield [Ask(pixels_of(row), self.config.question, self.config.max_new_tokens, seed)]
        return [{"caption": answer.text}]

    def details(self, values: Values) -> str:
        return ""
