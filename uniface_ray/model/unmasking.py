"""How an image is drawn: the settings of a request, and the plan of its steps that follows from them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from uniface_ray.core.errors import UserError
from uniface_ray.model.schedules import schedule


@dataclass(frozen=True)
class DrawSettings:
    """Settings of one image. Those of UniF²ace are not stated by the paper.

    Attributes:
        steps: passes through the model; fewer are made where fewer tokens are unknown.
        guidance: w of classifier-free guidance in Show-o's convention, (1 + w) conditional - w unconditional; 0 is no
            guidance and costs half. Show-o's examples use 5 at 512 px and 1.75 at 256 px.
        guidance_interval: shares of the steps between which there is guidance; steps outside cost half (Kynkäänniemi et
            al. 2024, arXiv 2404.07724, for diffusion). Show-o guides all steps.
        temperature: scale of the Gumbel noise on the confidence by which tokens stay, at the first step; it falls to 0
            with the steps. Codes themselves are drawn at temperature 1 (modeling_showo.py:173-177).
        top_k: draw codes from this many likeliest only; 0 for all.
        top_p: draw codes from the likeliest that together reach this probability only; 1 for all.
        schedule: share of the tokens that is still unknown after a share of the steps (see `schedules.schedule`).
        reference: count and cool as Show-o does, faults included, see `plan`.
    """

    steps: int = 18
    guidance: float = 5.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    schedule: str = "cosine"
    reference: bool = False

    def __post_init__(self) -> None:
        begin, end = self.guidance_interval
        rules = {
            "steps": (self.steps >= 1, "must be 1 or more"),
            "guidance": (0 <= self.guidance < math.inf, "must be 0 (none) or more"),
            "guidance_interval": (0 <= begin < end <= 1, "must be [begin, end] with 0 <= begin < end <= 1"),
            "temperature": (0 <= self.temperature < math.inf, "must be 0 or more"),
            "top_k": (self.top_k >= 0, "must be 0 (all codes) or more"),
            "top_p": (0 < self.top_p <= 1, "must be over 0 and at most 1 (all codes)"),
        }
        for name, (kept, rule) in rules.items():
            if not kept:
                raise UserError(f"{name} is {getattr(self, name)}, but {rule}")
        schedule(self.schedule)


class Plan(NamedTuple):
    """Steps of one image.

    Attributes:
        unknown: tokens that are still unknown after each step; falls to 0.
        temperature: noise of each step.
    """

    unknown: list[int]
    temperature: list[float]


def plan(unknown: int, tokens: int, settings: DrawSettings) -> Plan:
    """Plan the steps of an image.

    Every step makes at least one token known, and leaves at least one for each step to come. `settings.reference` does
    as Show-o (modeling_showo.py:163-177) instead: its counts are of all tokens, even where most are known from the
    start, so that the last steps have nearly all the work; and its temperature is cooled by every step anew.

    Args:
        unknown: tokens to draw.
        tokens: N, tokens of the image.
        settings: of the request.
    """
    if unknown == 0:
        return Plan([], [])
    share = schedule(settings.schedule).share
    steps = settings.steps if settings.reference else min(settings.steps, unknown)
    counts, temperatures = [], []
    left, temperature = unknown, settings.temperature
    for step in range(1, steps + 1):
        ratio = step / steps
        # float32 like Show-o's: its product and floor decide between neighbours.
        scheduled = int(((tokens if settings.reference else unknown) * share(torch.tensor(ratio))).floor())
        left = max(1 if settings.reference else steps - step, min(left - 1, scheduled))
        temperature = (temperature if settings.reference else settings.temperature) * (1 - ratio)
        counts.append(left)
        temperatures.append(temperature)
    # What Show-o would hide after its last step it returns all the same.
    return Plan([*counts[:-1], 0], temperatures)


__all__ = ["DrawSettings", "Plan", "plan"]
