"""Keys and values of many requests at once: a slot each, in tensors that are made once."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from uniface_ray.model.transfer import sent

# Room is made for this many positions at a time.
_POSITIONS = 64


class SlotCache(Cache):
    """A transformers cache over slots. Before each call of the model, one of three windows says what it works on.

    Letters in shapes: S slots, H heads, P positions, D head size.
    """

    def __init__(self, backbone: PreTrainedConfig, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        """Make a cache without room; `reserve` makes some."""
        layers, heads = backbone.num_hidden_layers, backbone.num_key_value_heads
        size = backbone.hidden_size // backbone.num_attention_heads
        empty = torch.empty((slots, heads, 0, size), dtype=dtype, device=device)
        # A tensor for each layer's keys and one for its values: a compiled step writes to them in place, where of one
        # tensor for all it would make a copy.
        self.states = [empty] * (2 * layers)
        self.room = 0  # positions of a slot
        self.moves = 0  # how often a layer's slots have come to other memory
        self.rows: slice | Tensor = slice(0)
        self.start: int | Tensor = 0
        self.end = 0
        super().__init__(layers=[_SlotLayer(self, layer) for layer in range(layers)])

    def reserve(self, positions: int, empty: bool = False) -> None:
        """Make room for requests of so many positions.

        Args:
            positions: of the longest request.
            empty: no slot is in use, so room that only a longer request needed is given back; what the first
                `positions` hold stays.

        Raises:
            RuntimeError: there is no memory for it; the room is what it was.
        """
        room = -(-positions // _POSITIONS) * _POSITIONS
        # Not at every small difference: it is a copy of all slots.
        if room > self.room or (empty and 2 * room <= self.room):
            self.room = min(room, self.room)
            try:
                self._resize(room)
            except Exception:
                self._resize(self.room)
                raise
            self.room = room

    def _resize(self, room: int) -> None:
        """A layer at a time: old and new slots are never all there at once."""
        for index, states in enumerate(self.states):
            if states.shape[2] != room:
                # Zeros, because what a mask hides is still multiplied by 0: a NaN there would be seen by all.
                self.states[index] = F.pad(states, (0, 0, 0, room - states.shape[2]))
                self.moves += 1

    def at_start(self, rows: Sequence[int]) -> "SlotCache":
        """The next call begins these slots anew, all with the same number of positions."""
        self.rows, self.start = sent(torch.tensor(rows), self.states[0].device), 0
        return self

    def after(self, rows: slice, start: int, end: int) -> "SlotCache":
        """The next call continues `rows` from position `start`, up to `end`."""
        self.rows, self.start, self.end = rows, start, end
        return self

    def one_more(self, rows: slice, positions: Tensor, end: int) -> "SlotCache":
        """The next call adds one position to each of `rows`, row i at `positions[i]`; none is at `end` or beyond."""
        self.rows, self.start, self.end = rows, positions, end
        return self

    def copy(self, moves: Sequence[tuple[int, int]], positions: int) -> None:
        """Copy the first `positions` of some slots to others, (from, to) each, as if all at once."""
        if moves:
            sources, targets = sent(torch.tensor(moves), self.states[0].device).unbind(1)
            for states in self.states:
                states[targets, :, :positions] = states[sources, :, :positions]


class _SlotLayer(DynamicLayer):
    """One layer's part of the slots; the owner's window says where."""

    def __init__(self, owner: SlotCache, layer: int) -> None:
        super().__init__()
        self.owner = owner
        self.layer = layer
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values (rows, H, L, D) and give all that the window's queries may see."""
        owner, length = self.owner, key_states.shape[2]
        keys, values = owner.states[2 * self.layer : 2 * self.layer + 2]
        if isinstance(owner.rows, Tensor):
            keys[owner.rows, :, :length] = key_states
            values[owner.rows, :, :length] = value_states
            return key_states, value_states
        if isinstance(owner.start, Tensor):
            rows = torch.arange(owner.rows.start, owner.rows.stop, device=keys.device)
            keys[rows, :, owner.start] = key_states[:, :, 0]
            values[rows, :, owner.start] = value_states[:, :, 0]
        else:
            keys[owner.rows, :, owner.start : owner.start + length] = key_states
            values[owner.rows, :, owner.start : owner.start + length] = value_states
        return keys[owner.rows, :, : owner.end], values[owner.rows, :, : owner.end]

    def get_seq_length(self) -> int:
        return self.owner.end
