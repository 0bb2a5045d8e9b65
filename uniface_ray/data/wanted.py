"""What a task wants from each row of a source: an image or none, and columns of its own."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.data.conversations import pairs_of
from uniface_ray.data.uris import resolve


class FieldKind(StrEnum):
    """What a cell may hold."""

    TEXT = "text"
    TEXTS = "a text or a list of texts"
    NUMBERS = "a list of numbers"
    SEED = "a whole number from 0 to 2^63 - 1"
    IMAGE = "encoded image bytes or the URI of an image"
    VALUE = "anything"
    CONVERSATION = "a list of turns of human and gpt, or of user and assistant, each with its answer"

    @property
    def arrow(self) -> pa.DataType:
        """The type in which it travels."""
        match self:
            case FieldKind.TEXT | FieldKind.VALUE:
                return pa.string()
            case FieldKind.TEXTS:
                return pa.list_(pa.string())
            case FieldKind.NUMBERS:
                return pa.list_(pa.float64())
            case FieldKind.SEED:
                return pa.int64()
            case FieldKind.IMAGE:
                return pa.large_binary()
            case FieldKind.CONVERSATION:
                return pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))


@dataclass(frozen=True, slots=True)
class Field:
    """One value that a task needs of every row, under `name` in `Row.fields`.

    Attributes:
        column: of the source that holds it; None where it is the same for every row.
        setting: that names the column, for messages.
        given: the value for every row, where there is no column.
        optional: a row may have none: null, or an empty text or list.
    """

    name: str
    kind: FieldKind
    column: str | None
    setting: str
    given: Any = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """The address of an image that a row names, until it is fetched."""

    uri: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a task takes from a row, beside `source.keep_columns`.

    Attributes:
        image: the row has an image; False for rows that are text alone.
        fields: the other values.
    """

    image: bool = True
    fields: tuple[Field, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Of `Row.fields`, between two stages."""
        return pa.schema([(one.name, one.kind.arrow) for one in self.fields])

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are the same for every row."""
        return {one.name: one.given for one in self.fields if one.column is None}

    def columns(self, source: SourceConfig) -> list[tuple[str, str]]:
        """(setting, column) of what must be there beside the image."""
        kept = [("source.keep_columns", name) for name in source.keep_columns]
        return [*((one.setting, one.column) for one in self.fields if one.column is not None), *kept]

    def take(self, cell: Callable[[str], Any], table: str, where: str) -> dict[str, Any]:
        """The fields of one row that come from its columns.

        Args:
            cell: a column's value in this row, as a plain Python value.
            table: address of the file that it stands in.
            where: `line 3 of ...`, for messages.

        Raises:
            RejectError: bad_request, where a value is missing or of another kind.
        """
        read = ((one, one.column) for one in self.fields if one.column is not None)
        return {one.name: _checked(one, cell(column), table, where) for one, column in read}


IMAGES = Wanted()
"""An image a row, and nothing else."""


def _checked(wanted: Field, value: Any, table: str, where: str) -> Any:
    if wanted.optional and (value is None or value in ("", [])):
        return None
    found: Any = None
    match wanted.kind, value:
        case FieldKind.VALUE, _:
            found = json.dumps(value, ensure_ascii=False, default=str)
        case FieldKind.TEXT, str() if value.strip():
            found = value
        case FieldKind.TEXTS, str() if value.strip():
            found = [value]
        case FieldKind.TEXTS, list() if value and all(isinstance(item, str) and item.strip() for item in value):
            found = value
        case FieldKind.NUMBERS, _:
            found = _numbers(value)
        case FieldKind.SEED, int() | str() if re.fullmatch(r"\d{1,19}", str(value)) and int(value) < 2**63:
            found = int(value)
        case FieldKind.IMAGE, bytes():
            found = value
        case FieldKind.IMAGE, str() if value:
            found = Link(resolve(value, table))
        case FieldKind.IMAGE, {"bytes": bytes() as data}:
            found = data
        case FieldKind.IMAGE, {"path": str() as path} if path:
            found = Link(resolve(path, table))
        case FieldKind.CONVERSATION, _:
            found = pairs_of(value)
    if found is None:
        raise RejectError(
            RejectKind.BAD_REQUEST, f"{where} has {wanted.column}={value!r:.80}, but needs {wanted.kind.value} there"
        )
    return found


def _numbers(value: Any) -> list[float] | None:
    """Also as JSON text: CSV has no lists."""
    try:
        items = json.loads(value) if isinstance(value, str) else value
        numbers = [float(item) for item in items]
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


__all__ = ["IMAGES", "Field", "FieldKind", "Link", "Wanted"]
