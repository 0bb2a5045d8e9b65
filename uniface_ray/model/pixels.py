"""From pixels to what the network takes, and back."""

import torch
from torch import Tensor


def to_model_range(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, same shape."""
    return pixels.float() / 127.5 - 1


def from_model_range(pixels: Tensor) -> Tensor:
    """float -1..1 -> uint8 0..255, same shape; what lies outside is clamped."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


__all__ = ["from_model_range", "to_model_range"]
