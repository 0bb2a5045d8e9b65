"""What a task is."""

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa

from uniface_ray.core.records import Row
from uniface_ray.engine.protocol import Request, Result


class Task(Protocol):
    """Turns a decoded row into requests, and their results into output rows."""

    name: str
    noun: str
    """What it makes, in the plural, for people."""
    columns: pa.Schema
    """The task's own columns, beside the common ones (`batch.schema`)."""
    text_column: str
    """The one of them that people read first."""

    def ask(self, row: Row, seed: int) -> list[Request]:
        """Requests of one row with its own seed; one or several.

        Raises:
            RejectError: the row cannot be asked about.
        """
        ...

    def tell(self, row: Row, results: Sequence[Result]) -> list[dict[str, Any]]:
        """Output rows, as values of `columns`, from the results of `ask`'s requests in their order."""
        ...
