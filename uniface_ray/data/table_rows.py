"""A row of a table -> the row of a run; the same for all kinds of tables."""

import json
from collections.abc import Callable
from typing import Any

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.records import Reject, RejectError, RejectKind, Row, RowRef
from uniface_ray.data.fetching import check_size
from uniface_ray.data.uris import resolve
from uniface_ray.data.wanted import Wanted


def table_row(
    ref: RowRef,
    where: str,
    source: SourceConfig,
    wanted: Wanted,
    image: str,
    cell: Callable[[str], Any],
    max_bytes: int,
    keep: Callable[[Any], Any] = lambda value: value,
) -> Row:
    """The row with what the task wants and its kept columns, or with the reason why not.

    Args:
        ref: its id, and the table's address.
        where: position and table, for messages.
        source: which columns to keep.
        wanted: of the row, by the task.
        image: the column of the image, where one is wanted: bytes, URI, or Hugging Face's {bytes, path}.
        cell: a column's value in this row; a RejectError, ValueError or OverflowError of it costs this row only.
        max_bytes: of an image.
        keep: what a kept value becomes.
    """
    row = Row(ref)
    try:
        row.kept = {name: keep(cell(name)) for name in source.keep_columns}
        row.fields = wanted.take(cell, ref.uri, where)
        if not wanted.image:
            return row
        given = cell(image)
        data, uri = _image_of(given)
        if data is not None:
            check_size(ref.uri, len(data), max_bytes)
            row.data = data
        elif uri:
            row.ref = RowRef(ref.row_id, resolve(uri, ref.uri))
        else:
            what = f"{where} has {image}={given!r:.80}, but needs an image or its URI there"
            raise RejectError(RejectKind.BAD_REQUEST, what)
    except RejectError as error:
        row.reject = error.at("read")
    except (ValueError, OverflowError) as error:  # text that is no UTF-8, a date beyond Python's
        row.reject = Reject(RejectKind.BAD_REQUEST, f"{where}: {error}", "read")
    return row


def as_text(value: Any) -> str | None:
    """Rows of text need not agree on types, columns must: text stays as it is, anything else becomes JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _image_of(cell: Any) -> tuple[bytes | None, str | None]:
    """The bytes of an image, or the URI that stands for them; neither in anything else."""
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell if isinstance(cell, bytes) else None, cell if isinstance(cell, str) else None
