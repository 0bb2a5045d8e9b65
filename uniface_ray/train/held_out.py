"""Which rows are never trained on: all of an image or none, wherever its rows lie."""

import pyarrow as pa

from uniface_ray.core.records import row_id_of
from uniface_ray.data.uris import is_image

_OF = 10_000


def are_held_out(table: pa.Table, by: str | None, share: float) -> list[bool]:
    """Of each row, by a hash of what it shares with the rows that stay together.

    Args:
        table: with `row_id`, and the column that `column_of` names.
        by: see `TrainDataConfig.held_out_by`.
        share: of the groups that is held out.
    """
    column = column_of(by)
    rows = table["row_id"].to_pylist()
    groups = table[column].to_pylist() if column in table.column_names else [None] * len(rows)
    if by is None:
        # Of an image inside a table or an archive, the address is that of the file around it.
        groups = [uri if isinstance(uri, str) and is_image(uri) else None for uri in groups]
    keys = [row if group is None else group for row, group in zip(rows, groups, strict=True)]
    return [row_id_of(f"{key}", 0) % _OF < share * _OF for key in keys]


def column_of(by: str | None) -> str:
    """The column that is needed to tell; where it is `uri`, a table may lack it."""
    return "uri" if by is None else by
