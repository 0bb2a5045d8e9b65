"""Work whose threads must not stay."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def aside(call: Callable[[], T]) -> T:
    """The result of a call, made in a thread that ends with it.

    For what computes with torch before another thread takes over, such as loading a model. OpenMP keeps a pool of
    threads for each thread that ever computed, as long as that lives, and once the pools are more threads than there
    are cores, all of them sleep instead of waiting awake for the next of a model's many small operations (libgomp,
    `GOMP_SPINCOUNT`).
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()
