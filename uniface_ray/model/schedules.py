"""Mask schedules: which share of an image's tokens is masked, in training and in drawing.

A schedule is written in the progress u of drawing, 0 (all masked) .. 1 (all drawn). Training draws u ~ U(0, 1); the
time of the diffusion papers is t = 1 - u. cosine, linear, pow<k> and sigmoid are Show-o's (models/sampling.py:39-78),
log-linear is SEDD's (noise_lib.py:56-72).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uniface_ray.core.errors import UserError

CHOICES = ("cosine", "linear", "log-linear", "sigmoid", "pow<k> such as pow2 or pow0.5")

# SEDD never masks all of a sequence for sure: log-linear ends at this distance from 1.
_LOG_LINEAR_GAP = 1e-3
_SIGMOID_REACH = 3.0


@dataclass(frozen=True)
class Schedule:
    """One schedule.

    Attributes:
        name: as the user gives it.
        share: u (any shape, 0..1) -> gamma, the share that is masked; falls from 1 to 0.
        speed: gamma -> gamma' = d gamma / dt >= 0, as a function of gamma itself, so that weights of the loss need no
            time: sigma' = gamma' / (1 - gamma). Infinite at gamma = 1 for pow<k> with k < 1.
    """

    name: str
    share: Callable[[Tensor], Tensor]
    speed: Callable[[Tensor], Tensor]


def schedule(name: str) -> Schedule:
    """The schedule called `name`.

    Raises:
        UserError: there is none of that name.
    """
    if name == "cosine":
        return Schedule(
            name,
            lambda u: torch.cos(u * math.pi * 0.5),
            lambda gamma: math.pi / 2 * (1 - gamma.square()).clamp_min(0).sqrt(),
        )
    if name == "linear":
        return Schedule(name, lambda u: 1 - u, torch.ones_like)
    if name == "log-linear":
        top = 1 - _LOG_LINEAR_GAP
        return Schedule(name, lambda u: top * (1 - u), lambda gamma: torch.full_like(gamma, top))
    if name == "sigmoid":
        return _sigmoid(name)
    exponent = re.fullmatch(r"pow(\d+(?:\.\d+)?)", name)
    if exponent and float(exponent[1]) > 0:
        return _power(name, float(exponent[1]))
    raise UserError(f"schedule is {name!r}, which is none of {', '.join(CHOICES)}: give one of these")


def _power(name: str, k: float) -> Schedule:
    return Schedule(name, lambda u: 1 - u**k, lambda gamma: k * (1 - gamma) ** ((k - 1) / k))


def _sigmoid(name: str) -> Schedule:
    low, high = (1 / (1 + math.exp(reach)) for reach in (_SIGMOID_REACH, -_SIGMOID_REACH))

    def share(u: Tensor) -> Tensor:
        return (high - torch.sigmoid(2 * _SIGMOID_REACH * u - _SIGMOID_REACH)) / (high - low)

    def speed(gamma: Tensor) -> Tensor:
        logistic = high - gamma * (high - low)
        return 2 * _SIGMOID_REACH * logistic * (1 - logistic) / (high - low)

    return Schedule(name, share, speed)


__all__ = ["CHOICES", "Schedule", "schedule"]
