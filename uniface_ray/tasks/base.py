"""What a task is."""

from collections.abc import Generator
from typing import Any, Protocol

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Pixels, RejectError, RejectKind, Row
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.engine.protocol import Request

Values = dict[str, Any]
"""One output row: the task's columns. `seed`, where given, stands for the row's own."""

Conversation = Generator[list[Request], list[Any], list[Values]]
"""What passes between a task and an engine about one row: the task yields requests, is sent their results in the same
order, may yield more, and returns the output rows."""


class Task(Protocol):
    """Turns a decoded row into requests, and their results into output rows."""

    name: str
    headline: str
    """What a run makes, as in `Captions of {} images`."""
    wanted: Wanted
    """What it takes from a row."""
    columns: pa.Schema
    """The task's own columns, beside the common ones (`batch.chunk`)."""
    text_column: str
    """The one of them that people read first."""
    own_words: bool = False
    """Whether that is the model's own text."""
    image_column: str | None = None
    """The one of them that holds images it has made."""
    files: bool = False
    """Whether these are also written as files, under the name in the column `file`."""
    images_out: int = 1
    """Images that a row brings along or gives, at most: they bound how many rows are worked on together."""

    def work(self, row: Row, seed: int) -> Conversation:
        """Talk to the engine about one row.

        A request that fails rejects the row as a whole: its other results are dropped, so that a row is either whole in
        the output or in the rejects.

        Raises:
            RejectError: the row cannot be worked on.
        """
        ...

    def details(self, values: Values) -> str:
        """A line about an output row, for people, beside `text_column`."""
        ...


def pixels_of(row: Row) -> Pixels:
    """The row's image.

    Raises:
        RejectError: it has none.
    """
    if row.pixels is None:
        raise RejectError(RejectKind.BAD_REQUEST, "the row has no image")
    return row.pixels


def settled(field: Field, example: str) -> Field:
    """`field`, whose value comes from one place: its column, or the settings.

    Args:
        field: with a column, a value given for all rows, or by mistake both or neither.
        example: of settings that give the value, for the message.

    Raises:
        UserError: both or neither.
    """
    if field.column is None and field.given is None:
        raise UserError(f"there is no {field.name}: give {example}, or {field.setting} for a column that has it")
    if field.column is not None and field.given is not None:
        raise UserError(
            f"{field.setting} is {field.column!r}, and the settings of the task give the {field.name} "
            f"{field.given!r:.80} for all rows: leave one of the two out"
        )
    return field


def seed_field(source: SourceConfig) -> tuple[Field, ...]:
    """The field `seed` of rows that bring their own; none where the source has no column of them."""
    return (Field("seed", FieldKind.SEED, source.seed_column, "source.seed_column"),) if source.seed_column else ()
