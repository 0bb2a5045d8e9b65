"""Work that takes one step: images to decode, statements to score. All that runs goes through the model at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from uniface_ray.core.records import Pixels
from uniface_ray.engine.image import ImageSequence
from uniface_ray.engine.pictures import read_pictures
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range
from uniface_ray.model.prompts import understanding_ids
from uniface_ray.model.scoring import score_answers


@dataclass(slots=True, eq=False)
class ScoreSequence:
    """A question whose answer is yes or no.

    Attributes:
        id: of the request.
        image: names the picture, as in `TextSequence`.
        picture: uint8 (3, size, size) RGB.
        question: token ids of the question.
        log_yes: log probability of yes, once it is done.
        log_no: likewise.
        score: P(yes) / (P(yes) + P(no)).
        done: it is scored.
    """

    id: int
    image: bytes
    picture: Pixels
    question: list[int]
    log_yes: float = 0.0
    log_no: float = 0.0
    score: float = 0.0
    done: bool = False


@dataclass(slots=True, eq=False)
class CodesSequence:
    """Codes (N,) int64 that are not decoded yet; `pixels` uint8 (3, size, size) once they are, which is `done`.

    Attributes:
        drawn: whose image it is.
        finished: it is all drawn, no guess on the way.
    """

    drawn: ImageSequence
    codes: Tensor
    finished: bool = True
    pixels: Tensor | None = None
    done: bool = False

    @property
    def id(self) -> int:
        """Of the request."""
        return self.drawn.id


class OneStep:
    """Nothing is kept from one step to the next."""

    def __init__(self, model: UniFaceForConditionalGeneration) -> None:
        self.model = model

    def order(self, one: Any) -> Any:
        """Any order is as good as another."""
        return 0

    def enter(self, entering: Sequence[object], first: int) -> None:
        """Nothing to prepare."""

    def collect(self) -> None:
        """`advance` has told the work already."""

    def keep(self, slots: Sequence[int]) -> None:
        """Nothing to move."""


class DecodeRunner(OneStep):
    """Codes to pixels, apart from the drawing: the image decoder has a batch of its own."""

    def advance(self, running: Sequence[CodesSequence], first: int) -> None:
        """Decode all of `running`."""
        codes = torch.stack([one.codes for one in running])
        pixels = from_model_range(self.model.decode_images(codes)).cpu()
        for one, picture in zip(running, pixels, strict=True):
            one.pixels, one.done = picture, True


class ScoreRunner(OneStep):
    """Probabilities of yes and no.

    Args:
        model: in eval mode.
        yes: token ids of each spelling of yes.
        no: likewise.
    """

    def __init__(
        self, model: UniFaceForConditionalGeneration, yes: Sequence[Sequence[int]], no: Sequence[Sequence[int]]
    ) -> None:
        super().__init__(model)
        self.yes, self.no = yes, no

    def order(self, one: ScoreSequence) -> tuple[int, bytes]:
        """Questions of like length next to each other."""
        return len(one.question), one.image

    def advance(self, running: Sequence[ScoreSequence], first: int) -> None:
        """Score all of `running`; an image is read once however many of them are about it."""
        pictures = {one.image: one.picture for one in running}
        codes, features = read_pictures(self.model, list(pictures.values()))
        place = {image: index for index, image in enumerate(pictures)}
        index = torch.tensor([place[one.image] for one in running])
        features = features and features.index_select(index)
        rows = [understanding_ids(self.model.config, one.question, codes[place[one.image]]) for one in running]
        scores = score_answers(self.model, rows, self.yes, self.no, features)
        found = zip(scores.log_yes.tolist(), scores.log_no.tolist(), scores.normalised.tolist(), strict=True)
        for one, (log_yes, log_no, score) in zip(running, found, strict=True):
            one.log_yes, one.log_no, one.score, one.done = log_yes, log_no, score, True
