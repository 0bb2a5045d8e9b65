"""Images under way: every step, one batch of all of them, whichever step of its own plan each is at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from uniface_ray.core.records import Pixels
from uniface_ray.engine.pictures import stacked
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.drawing import Drawing, DrawRequest, begin, step
from uniface_ray.model.prefix import Prefix


@dataclass(slots=True, eq=False)
class ImageSequence:
    """One image, from its prompt to its last known code.

    Attributes:
        id: of the request.
        request: prompt, seed and settings.
        picture: uint8 (3, size, size) RGB to draw into, where `request.unknown` says; None for a new image.
        partials: unfinished images to be seen on the way.
        guess: (N,) int64 codes of one of them, after a step that has one; whoever takes it sets None.
        codes: (N,) int64 once it is done.
        done: nothing is left to draw.
    """

    id: int
    request: DrawRequest
    picture: Pixels | None = None
    partials: int = 0
    guess: Tensor | None = None
    codes: Tensor | None = None
    done: bool = False

    @property
    def origin(self) -> int:
        """Images fail each on its own."""
        return self.id

    def is_shown(self, step: int, steps: int) -> bool:
        """Whether an unfinished image is to be seen after `step` of `steps`: they part the way into equal pieces."""
        pieces = self.partials + 1
        return step < steps and pieces * step // steps > pieces * (step - 1) // steps


class ImageRunner:
    """Slots of images over one model."""

    def __init__(self, model: UniFaceForConditionalGeneration) -> None:
        self.model = model
        self.drawing: Drawing | None = None
        self._null: Prefix | None = None  # the empty prompt, computed once
        self._advanced: list[tuple[int, ImageSequence]] = []

    @staticmethod
    def order(one: ImageSequence) -> int:
        """Any order is as good as another."""
        return 0

    def enter(self, entering: Sequence[ImageSequence], first: int) -> None:
        """Compute the prompts of new images, in the slots from `first` on."""
        begun = begin(self.model, self._requests(entering), self._null)
        self._null = begun.null
        # A slot whose own image failed to enter holds a copy, until it is dropped.
        missing = first - (len(self.drawing.rows) if self.drawing else 0)
        begun = begun.take([*[0] * missing, *range(len(entering))]) if missing else begun
        self.drawing = self.drawing.join(begun) if self.drawing else begun

    def _requests(self, entering: Sequence[ImageSequence]) -> list[DrawRequest]:
        pictures = [one.picture for one in entering if one.picture is not None]
        # Codes alone: the experts of drawing look at no picture.
        codes = iter(self.model.encode_images(stacked(self.model, pictures)) if pictures else ())
        return [one.request if one.picture is None else replace(one.request, codes=next(codes)) for one in entering]

    def advance(self, running: Sequence[ImageSequence], first: int) -> None:
        """One step of the images in the slots from `first` on."""
        assert self.drawing is not None
        slots = range(first, first + len(running))
        part = self.drawing if len(running) == len(self.drawing.rows) else self.drawing.take(slots)
        random = [row.generator.get_state() for row in part.rows]
        try:
            step(self.model, part)
        except Exception:
            for row, state in zip(part.rows, random, strict=True):  # so that a second try draws the same
                row.generator.set_state(state)
            raise
        if part is not self.drawing:
            self.drawing.codes[slots], self.drawing.unknown[slots] = part.codes, part.unknown
        self._advanced += zip(slots, running, strict=True)

    def collect(self) -> None:
        """Give the images that are done their codes, and those that are watched what they look like now."""
        advanced, self._advanced = self._advanced, []
        for slot, one in advanced:
            assert self.drawing is not None
            row = self.drawing.rows[slot]
            if row.done:
                one.codes, one.done = self.drawing.codes[slot].clone(), True
            elif one.is_shown(row.step, len(row.plan.unknown)):
                one.guess = self.drawing.codes[slot].clone()

    def keep(self, slots: Sequence[int]) -> None:
        """Only these slots stay, in this order."""
        self.drawing = self.drawing.take(slots) if self.drawing and slots else None
