"""A key-value cache that grows in place."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class GrowingCache(Cache):
    """transformers' dynamic cache with room ahead: a new token is written where it goes, and nothing is copied.

    `DynamicCache` copies all keys and values of all layers for each token, which costs more than the token itself.
    """

    def __init__(self, layers: int, step: int = 32) -> None:
        """Make an empty cache.

        Args:
            layers: of the transformer.
            step: positions that room is made for at a time.
        """
        super().__init__(layers=[_GrowingLayer(step) for _ in range(layers)])


class _GrowingLayer(DynamicLayer):
    """Keys and values (B, heads, L, head size), views into buffers with room for more positions."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = [key_states[:, :, :0], value_states[:, :, :0]]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for index, states in enumerate((key_states, value_states)):
            if end > self.buffers[index].shape[2]:
                self.buffers[index] = _with_room(self.buffers[index][:, :, :start], states, end + self.step)
            self.buffers[index][:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        length = self.get_seq_length()
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def _with_room(used: Tensor, states: Tensor, positions: int) -> Tensor:
    """A buffer like `states` for so many positions, begun with what is `used`."""
    batch, heads, _, size = states.shape
    buffer = torch.empty((batch, heads, positions, size), dtype=states.dtype, device=states.device)
    buffer[:, :, : used.shape[2]] = used
    return buffer


__all__ = ["GrowingCache"]
