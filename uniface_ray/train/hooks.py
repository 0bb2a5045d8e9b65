"""What surrounds the training loop, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from uniface_ray.core.errors import StoppedError


@dataclass(slots=True)
class Hooks:
    """Who stops the loop, and who hears of it.

    Attributes:
        stopping: whether to save and end; each worker is asked before every step, and one yes is enough.
        due: whether `leaving` should be asked again; each worker is asked before every step, and one yes is enough.
        leaving: whether to save now, because a machine is about to go; asked of all workers at the same step, and every
            one says the same.
        tell: hears each record of the journal, on the first worker; also a `note` for people, with the `step`.
    """

    stopping: Callable[[], bool] = lambda: False
    due: Callable[[], bool] = lambda: False
    leaving: Callable[[], bool] = lambda: False
    tell: Callable[[dict[str, Any]], None] = lambda record: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, after `step` steps over all stages."""

    state: Literal["done", "interrupted"]
    step: int


class NotFiniteError(StoppedError):
    """A loss or a gradient is no number any more."""
