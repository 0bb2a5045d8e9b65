"""Threads for what blocks, apart by what it waits for: a storage that does not answer stops no picture."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

A = ParamSpec("A")
T = TypeVar("T")

WORK = ThreadPoolExecutor(4, thread_name_prefix="work")
"""For what keeps a CPU busy: base64, files of images, grammars."""
STORAGE = ThreadPoolExecutor(16, thread_name_prefix="storage")
"""For files and batches, which may wait minutes for a bucket."""
LOOKUPS = ThreadPoolExecutor(16, thread_name_prefix="look-up")
"""For names of hosts: whoever has given up waiting still holds a thread until the resolver has, too."""


async def run_in(threads: ThreadPoolExecutor, call: Callable[A, T], *arguments: A.args, **named: A.kwargs) -> T:
    """The result of a call in one of these threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: call(*arguments, **named))


__all__ = ["LOOKUPS", "STORAGE", "WORK", "run_in"]
