"""Caption: one description of each image."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from uniface_ray.core.config import TaskConfig
from uniface_ray.core.records import RejectError, RejectKind, Row
from uniface_ray.engine.protocol import Request, Result


class Caption:
    """Asks every image the same question and keeps the answer as `caption`."""

    name = "caption"
    noun = "captions"
    columns = pa.schema([("caption", pa.string())])
    text_column = "caption"

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    def ask(self, row: Row, seed: int) -> list[Request]:
        """One request: the configured question about the row's image."""
        if row.pixels is None:
            raise RejectError(RejectKind.BAD_REQUEST, "the row has no image")
        return [Request(row.pixels, self.config.question, self.config.max_new_tokens, seed)]

    def tell(self, row: Row, results: Sequence[Result]) -> list[dict[str, Any]]:
        """One output row: the caption."""
        return [{"caption": results[0].text}]
