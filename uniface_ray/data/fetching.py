"""Fetch the bytes of many rows at once: one object of S3 takes a while, however small."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import RejectError, Row
from uniface_ray.core.storage import fetch

_THREADS = 16
# Rows that are fetched or waiting for their turn; bounds the bytes in memory.
_AHEAD = 32


def fetch_rows(rows: Iterable[Row], storage: StorageConfig, max_bytes: int) -> Iterator[Row]:
    """The rows in order; those without data and without reject get the bytes of their URI, or a reject."""

    def complete(row: Row) -> Row:
        if row.data is None and row.reject is None:
            try:
                row.data = fetch(row.ref.uri, storage, max_bytes)
            except RejectError as error:
                row.reject = error.at("read")
        return row

    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
    try:
        pending: deque[Future[Row]] = deque()
        for row in rows:
            pending.append(pool.submit(complete, row))
            if len(pending) >= _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
