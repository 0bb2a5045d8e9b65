"""Fetch the bytes that rows name, many at once: one object of S3 takes a while, however small."""

from collections.abc import Iterable, Iterator, Set

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.records import RejectError, RejectKind, Row
from uniface_ray.core.storage import open_path
from uniface_ray.core.storage_errors import reject_of
from uniface_ray.data.http import http_client
from uniface_ray.data.uris import is_web
from uniface_ray.data.wanted import Link

_THREADS = 16
# Rows that are fetched or waiting for their turn; bounds the bytes in memory.
_AHEAD = 32


def fetch_rows(
    rows: Iterable[Row], storage: StorageConfig, max_bytes: int, image: bool = True, only: Set[int] | None = None
) -> Iterator[Row]:
    """The rows in order, with the bytes that they name, or a reject.

    Args:
        rows: those without data and without reject get the bytes of their URI; links in their fields, likewise.
        storage: how to reach S3.
        max_bytes: more is rejected.
        image: False where the URI names no image, but the file that the row stands in.
        only: ids of the rows that are wanted; None for all.
    """
    if only is not None:
        rows = (row for row in rows if row.ref.row_id in only)

    def complete(row: Row) -> Row:
        if row.reject is None:
            try:
                if image and row.data is None:
                    row.data = fetch(row.ref.uri, storage, max_bytes)
                for name, value in row.fields.items():
                    if isinstance(value, Link):
                        row.fields[name] = fetch(value.uri, storage, max_bytes)
            except RejectError as error:
                row.reject = error.at("read")
        return row

    return map_ahead(complete, rows, _THREADS, _AHEAD)


def fetch(uri: str, storage: StorageConfig, max_bytes: int) -> bytes:
    """All of a file that a row names, in a storage or on the web.

    Raises:
        RejectError: not there, more than `max_bytes`, an address of another kind, or the storage failed.
    """
    if is_web(uri):
        return http_client(storage).get(uri, max_bytes)
    try:
        folder, name = open_path(uri, storage)
        # Opening a pipe would wait for ever, and only a disk has any.
        if folder.is_local and not folder.exists(name):
            raise RejectError(RejectKind.NOT_FOUND, f"no such file: {uri}")
        with folder.open_input(name) as file:
            size = file.size()
            check_size(uri, size, max_bytes)
            data: bytes = file.read()
            if len(data) != size:
                raise OSError(f"{len(data):,} of {size:,} bytes came")
    except UserError as error:
        raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error
    except (OSError, ValueError) as error:
        raise reject_of(error, uri) from error
    return data


def check_size(uri: str, size: int, max_bytes: int) -> None:
    """Raise the RejectError of a file that is too large."""
    if size > max_bytes:
        raise RejectError(RejectKind.TOO_LARGE, f"{uri} has {size:,} bytes, but decode.max_bytes allows {max_bytes:,}")
