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
        config = self.config
        request = Ask(pixels_of(row), config.question, config.max_new_tokens, seed, config.temperature, config.top_p)
        (answer,) = yield [request]
        return [{"caption": answer.text}]

    def details(self, values: Values) -> str:
        return ""
