"""What every engine takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from uniface_ray.core.records import Pixels, Reject


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one image.

    Attributes:
        pixels: uint8 (3, size, size) RGB, size as the engine's `image_size`.
        question: as the user wrote it.
        max_new_tokens: most tokens of the answer.
        seed: int64 >= 0, the row's own; greedy answers do not use it.
    """

    pixels: Pixels
    question: str
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one request.

    Attributes:
        text: of the answer.
        tokens: new tokens it took.
    """

    text: str
    tokens: int


class Engine(Protocol):
    """One replica of a model. The same object serves a batch actor, an online replica and a plain process."""

    @property
    def image_size(self) -> int:
        """Side of the square of pixels a request carries."""
        ...

    def submit(self, request: Request) -> int:
        """Take a request; its outcome comes from a later `step`, under the id given back."""
        ...

    def step(self) -> list[tuple[int, Result | Reject]]:
        """Go on with what was submitted, a little; outcomes of what has ended, by id. A bad request costs no other."""
        ...

    def cancel(self, number: int) -> None:
        """Forget a request: no outcome will come. An id that has ended already is no error."""
        ...

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        ...


def run_all(engine: Engine, requests: Sequence[Request]) -> list[Result | Reject]:
    """`Engine.run`, by means of the other methods. Outcomes of requests submitted before are lost."""
    numbers = [engine.submit(request) for request in requests]
    waited_for = set(numbers)
    outcomes: dict[int, Result | Reject] = {}
    while waited_for - outcomes.keys():
        outcomes |= engine.step()
    return [outcomes[number] for number in numbers]
