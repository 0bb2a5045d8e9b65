"""Stages of a training: what learns, how fast, for how long and from which rows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from uniface_ray.core.settings import Settings


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Shares = Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Steps = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_one_or_more), Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: see `StagesConfig`; `first` is the step it begins with, counted over all stages."""

    number: int
    first: int
    trained: str
    steps: int
    learning_rate: float
    warmup_steps: int
    shares: dict[str, float]

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first + self.steps


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"must be all, experts, everything or a regular expression ({error})") from error
    return value


class StagesConfig(Settings):
    """Stages of the training, one after another: a list has a value for each stage, one value holds for all.

    Each stage begins with a fresh optimizer and a schedule of its own. Stages, rates and steps are not stated by the
    paper; the defaults are Show-o's of its last tuning, cut short.

    Attributes:
        trained: which parameters learn: `all` of the transformer, its experts and their resamplers; `experts` alone;
            `everything`, with the image encoders (of rows that keep `pixels`); or a regular expression of names.
        steps: of the optimizer.
        learning_rate: at its highest.
        warmup_steps: over which the rate rises.
        draw: share of text-to-image rows in a batch, relative to the others.
        caption: of rows to caption.
        vqa: of rows with a question.
    """

    trained: Annotated[
        tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_patterns), Field(min_length=1)
    ] = ("all",)
    steps: Steps = (1000,)
    learning_rate: Rates = (5e-5,)
    warmup_steps: Counts = (100,)
    draw: Shares = (1.0,)
    caption: Shares = (1.0,)
    vqa: Shares = (1.0,)

    @model_validator(mode="after")
    def _lists_are_as_long(self) -> "StagesConfig":
        lengths = {name: len(values) for name, values in self if len(values) > 1}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"lists of different lengths, {lengths}: give each a value for every stage, or one for all"
            )
        for stage in self.each():
            if not sum(stage.shares.values()):
                raise ValueError(f"draw, caption and vqa are all 0 in stage {stage.number}: one must be more")
        return self

    def each(self) -> list[Stage]:
        """The stages, in order."""
        count = max(len(values) for _, values in self)

        def of(values: Sequence[Any], index: int) -> Any:
            return values[index] if len(values) > 1 else values[0]

        stages: list[Stage] = []
        for i in range(count):
            stages.append(
                Stage(
                    number=i,
                    first=stages[-1].end if stages else 0,
                    trained=of(self.trained, i),
                    steps=of(self.steps, i),
                    learning_rate=of(self.learning_rate, i),
                    warmup_steps=of(self.warmup_steps, i),
                    shares={kind: of(getattr(self, kind), i) for kind in ("draw", "caption", "vqa")},
                )
            )
        return stages
