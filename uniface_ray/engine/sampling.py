"""From logits to tokens, on the device, so that a row's choice depends on its own logits and its own seed only."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are chosen.

    Attributes:
        temperature: 0 takes the most likely token each time; else logits are divided by it.
        top_p: only the most likely tokens that together reach this probability are drawn from.
    """

    temperature: float = 0.0
    top_p: float = 1.0


def uniforms(seed: int, count: int) -> Tensor:
    """The `count` random numbers (count,) in 0..1 of a request, one for each token; the same on any device."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """A token for each row.

    Args:
        logits: (B, V) of any float type.
        temperature: (B,) float32; 0 where the most likely token is wanted.
        top_p: (B,) float32, over 0 and up to 1.
        uniform: (B,) float32 in 0..1, the row's random number of this step.

    Returns:
        (B,) int64. A drawn token is where `uniform` falls among the probabilities in falling order (inverse of the
        distribution function).
    """
    greedy = logits.argmax(-1)
    scaled = logits.float() / temperature.clamp_min(1e-6)[:, None]
    probability, order = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
    reached = probability.cumsum(-1)
    # The token that crosses top_p still counts, so there is always one.
    last = (reached - probability < top_p[:, None]).sum(-1, keepdim=True) - 1
    place = torch.searchsorted(reached, uniform[:, None] * reached.gather(1, last), right=True)
    drawn = order.gather(1, place.minimum(last))[:, 0]
    return torch.where(temperature > 0, drawn, greedy)
