"""Choosing image codes, and which of them stay hidden, from given random numbers.

The numbers come from outside so that an image's own generator makes them, wherever and with whatever it is computed.
Letters in shapes: R rows, N image tokens, C codes of K bits.
"""

import torch
from torch import Tensor


def keep_likely(logits: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Logits (R, N, C) with minus infinity for codes that are too unlikely to be drawn.

    Args:
        logits: float32.
        top_k: (R,) int64: a code stays that is among so many likeliest; C keeps all.
        top_p: (R,) float32: a code stays while all likelier ones together have less than this probability; more than 1
            keeps all. The likeliest always stays.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(-1)
    likelier = probability.cumsum(-1) - probability
    rank = torch.arange(logits.shape[-1], device=logits.device)
    unlikely = (rank >= top_k[:, None, None]) | (likelier >= top_p[:, None, None])
    return logits.masked_fill(unlikely.scatter(-1, order, unlikely), -torch.inf)


def pick(probability: Tensor, uniform: Tensor) -> Tensor:
    """Draw one of C = 2^K codes at each place, bit by bit: K random numbers a place.

    Gumbel noise would take C numbers. One number, looked up in the sum of probabilities, has C values where the code
    turns: float32's last digits, which depend on the batch, would turn it a hundred times as often.

    Args:
        probability: (R, N, C); not necessarily summing to 1.
        uniform: (R, N, K) in 0 <= u < 1, for the highest bit first.

    Returns:
        (R, N) int64; never a code of probability 0.
    """
    chosen = torch.zeros(probability.shape[:-1], dtype=torch.int64, device=probability.device)
    for number in uniform.unbind(-1):
        halves = probability.unflatten(-1, (2, -1))
        mass = halves.sum(-1)
        upper = number * mass.sum(-1) >= mass[..., 0]
        probability = torch.where(upper[..., None], halves[..., 1, :], halves[..., 0, :])
        chosen = 2 * chosen + upper
    return chosen


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers in 0 .. 1 -> Gumbel noise of the same shape (Show-o models/sampling.py)."""
    return -(-uniform.clamp_min(1e-20).log()).clamp_min(1e-20).log()


def least(confidence: Tensor, count: Tensor) -> Tensor:
    """Mark the `count` (R,) lowest of each row of `confidence` (R, N) -> (R, N) bool; of equals, the first."""
    return confidence.argsort(dim=-1, stable=True).argsort(-1) < count[:, None]


__all__ = ["gumbel", "keep_likely", "least", "pick"]
