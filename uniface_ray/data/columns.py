"""Which columns of a table to read."""

import pyarrow as pa

from uniface_ray.core.config import SourceConfig
from uniface_ray.core.errors import UserError
from uniface_ray.data.wanted import Wanted


def columns_to_read(schema: pa.Schema, uri: str, source: SourceConfig, wanted: Wanted) -> list[str]:
    """The images' column (bytes, else URIs) first, where images are wanted; then what else is.

    Raises:
        UserError: a column is missing or holds something else; `uri` says where.
    """
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    others = wanted.columns(source)
    for setting, name in others:
        if name not in schema.names:
            raise UserError(
                f"{setting} names {name!r}, but the columns of {uri} are: {there}. Set it to the one that is meant"
            )
    columns = [name for _, name in others]
    if not wanted.image:
        return list(dict.fromkeys(columns))
    if source.image_column in schema.names and _holds_images(schema.field(source.image_column).type):
        image = source.image_column
    elif source.uri_column in schema.names and _holds_text(schema.field(source.uri_column).type):
        image = source.uri_column
    else:
        raise UserError(
            f"source.image_column is {source.image_column!r} and source.uri_column is "
            f"{source.uri_column!r}, but {uri} has neither an image column of that name (binary, or a "
            "struct of bytes and path) nor a URI column of that name (string). "
            f"Its columns are: {there}. Set one of the two to the column with the images"
        )
    return list(dict.fromkeys([image, *columns]))


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "bytes" in names and _holds_images(kind.field("bytes").type)
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
