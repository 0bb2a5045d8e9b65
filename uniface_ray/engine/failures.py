"""What an error of torch means: too little memory, or a process that can do nothing more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from uniface_ray.core.errors import BrokenProcessError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of a device or of the machine; a smaller batch may fit."""
    # For the machine's own memory, torch has no class of errors.
    of_the_machine = isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    return of_the_machine or isinstance(error, MemoryError | torch.OutOfMemoryError)


@contextmanager
def broken_process() -> Iterator[None]:
    """Errors that leave nothing to go on with are raised as such.

    Raises:
        BrokenProcessError: the device failed, and does nothing more for this process; or memory ran out where no
            smaller batch would help, with the slots half moved.
    """
    try:
        yield
    except torch.AcceleratorError as error:
        raise BrokenProcessError(f"the device of this replica failed: {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise BrokenProcessError(f"the memory of this replica ran out between two batches: {error}") from error
        raise


__all__ = ["broken_process", "is_out_of_memory"]
