"""What every engine takes and gives: a closed set of requests, and a result for each kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uniface_ray.core.records import Pixels, Reject


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about an image. Requests that hold the same `pixels` object share the work on the image.

    Attributes:
        pixels: uint8 (3, size, size) RGB, size as the engine's `image_size`.
        question: as the user wrote it.
        max_new_tokens: most tokens of the answer.
        seed: int64 >= 0; greedy answers do not use it.
        temperature: 0 takes the most likely token each time.
        top_p: draw only from the most likely tokens that together reach this probability.
        time_limit_s: seconds from `submit` after which the request is given up.
        watched: somebody wants to see the answer grow (`Engine.progress`).
        choices: the answer is one of these, word for word; none leaves it free. Of two where one begins as the other
            does, the model decides whether it goes on.
        json_schema: the answer is JSON of this schema, itself JSON; None leaves it free. An answer that reaches
            `max_new_tokens` is cut there, whatever its form.
    """

    pixels: Pixels
    question: str
    max_new_tokens: int
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    time_limit_s: float | None = None
    watched: bool = False
    choices: tuple[str, ...] = ()
    json_schema: str | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """A prompt to draw, or a region of an image to draw anew.

    Attributes:
        prompt: as the user wrote it; what does not fit the model is cut, and the result says what.
        seed: int64 >= 0; with the prompt and the settings it decides the image, whatever else is drawn at the time.
        steps: of denoising.
        guidance: classifier-free guidance; 0 is none.
        temperature: of the noise on the confidence by which tokens are kept.
        schedule: how many tokens are still masked after each step (`model.schedules`).
        guidance_interval: shares of the steps between which there is guidance; a step outside takes half the time.
        top_k: tokens to sample from; None is all.
        top_p: share of the probability to sample from; None is all.
        pixels: uint8 (3, size, size) RGB, the image to edit; None draws all of it.
        mask: uint8 (size, size), not 0 where `pixels` is to be drawn anew; needs `pixels`.
        time_limit_s: as of `Ask`.
        partials: how many unfinished images somebody wants to see on the way (`Engine.progress`), evenly spread.
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    temperature: float
    schedule: str
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    top_k: int | None = None
    top_p: float | None = None
    pixels: Pixels | None = None
    mask: Pixels | None = None
    time_limit_s: float | None = None
    partials: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """How likely the model takes it that an image shows what a text says.

    Those of one batch share the codes and features of `pixels`.

    Attributes:
        pixels: uint8 (3, size, size) RGB.
        statement: what the image is said to show.
        time_limit_s: as of `Ask`.
    """

    pixels: Pixels
    statement: str
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Encode:
    """An image, to be turned into what the model sees of it.

    Attributes:
        pixels: uint8 (3, size, size) RGB.
        features: also what the encoders of its experts see.
        time_limit_s: as of `Ask`.
    """

    pixels: Pixels
    features: bool = False
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """An image, to be looked at by a judge, a vision model or both (`evaluate.eyes`), not by the model itself.

    Attributes:
        pixels: uint8 (3, size, size) RGB.
        time_limit_s: as of `Ask`.
    """

    pixels: Pixels
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """The result of `Ask`.

    Attributes:
        text: of the answer.
        tokens: new tokens it took.
        prompt_tokens: tokens of the image and the question; 0 where the engine cannot tell.
    """

    text: str
    tokens: int
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Drawing:
    """The result of `Draw`.

    Attributes:
        pixels: uint8 (3, size, size) RGB.
        cut: the end of the prompt, which the model did not see; empty where it saw all.
        tokens: of the image; 0 where the engine cannot tell.
        prompt_tokens: of the prompt that it saw, likewise.
    """

    pixels: Pixels
    cut: str
    tokens: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The result of `Score`.

    Attributes:
        score: P(yes) / (P(yes) + P(no)), 0..1.
        log_yes: natural logarithm of P(yes).
        log_no: likewise of P(no).
    """

    score: float
    log_yes: float
    log_no: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of `Encode`.

    Attributes:
        codes: int32 (N,), 0 .. codebook size - 1.
        features: float16 (M, width) of each encoder by its name, where asked for; empty for a model without.
    """

    codes: NDArray[np.int32]
    features: dict[str, NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of `Look`.

    Attributes:
        chances: of each value of each attribute, 0..1; empty without a judge.
        features: float32 (D,) of the vision model; None without one.
    """

    chances: dict[str, dict[str, float]]
    features: NDArray[np.float32] | None


Request = Ask | Draw | Score | Encode | Look
Result = Text | Drawing | Likelihood | Encoded | Seen
Outcome = Result | Reject


class Answers(Protocol):
    """What answers requests."""

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Answer requests; the i-th outcome belongs to the i-th request."""
        ...


class Engine(Answers, Protocol):
    """One replica of a model. The same object serves a batch actor, an online replica and a plain process."""

    @property
    def image_size(self) -> int:
        """Side of the square of pixels that requests and results carry."""
        ...

    def submit(self, request: Request) -> int:
        """Take a request of any kind; its outcome comes from a later `step`, under the id given back.

        A kind of request that the model cannot answer ends as a `bad_request`.
        """
        ...

    def step(self) -> list[tuple[int, Outcome]]:
        """Go on with what was submitted, a little; outcomes of what has ended, by id. A bad request costs no other."""
        ...

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        """What watched requests have come to in the last step: results as far as they are known, by id.

        An answer so far only grows, but for a character whose last bytes are missing, which stands there as U+FFFD. An
        unfinished image is the model's guess of all of it. An engine that cannot look into its work gives none.
        """
        ...

    def cancel(self, number: int) -> None:
        """Forget a request: no outcome will come. An id that has ended already is no error."""
        ...


def run_all(engine: Engine, requests: Sequence[Request]) -> list[Outcome]:
    """`Engine.run`, by means of the other methods. Outcomes of requests submitted before are lost."""
    numbers = [engine.submit(request) for request in requests]
    waited_for = set(numbers)
    outcomes: dict[int, Outcome] = {}
    while waited_for - outcomes.keys():
        outcomes |= engine.step()
    return [outcomes[number] for number in numbers]
