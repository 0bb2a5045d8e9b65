"""The C library's memory allocator, told how a model uses memory."""

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_SMALL_MMAP_THRESHOLD = 2**20


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in the process instead of giving it back to the system.

    By default glibc returns large blocks, and does so sooner in threads, where Ray runs a replica: every batch then
    pays for the same pages again. Other C libraries have no such setting and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**30)


def return_freed_memory() -> None:
    """Give the memory of whatever was large back to the system as soon as it is freed.

    By default glibc learns to keep such blocks, so a process stays as large as its largest picture.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _SMALL_MMAP_THRESHOLD)
