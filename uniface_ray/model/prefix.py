"""Keys and values of prompts, which stay the same over all steps of drawing: text never attends to the image.

Prompts stand right-aligned before the image, each without its `[PAD]`s, at the positions that the full layout gives
them. So a row is computed the same whatever prompts are beside it. Letters in shapes: R rows, P positions of the
longest prompt.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import left_pad
from uniface_ray.model.routing import Layout
from uniface_ray.model.transfer import sent


class Prefix(NamedTuple):
    """Prompts after the transformer.

    Attributes:
        keys: (layers, R, heads, P, head size).
        values: the same.
        lengths: positions of each row that are text; those before them are padding.
    """

    keys: Tensor
    values: Tensor
    lengths: list[int]

    @property
    def width(self) -> int:
        """P."""
        return self.keys.shape[3]

    def visible(self) -> Tensor:
        """(R, P) bool, True where text stands."""
        position = torch.arange(self.width, device=self.keys.device)
        return position >= self.width - sent(torch.tensor(self.lengths), self.keys.device)[:, None]

    def widened(self, width: int) -> "Prefix":
        """With padding up to `width` positions, or with padding taken away."""
        more = (0, 0, width - self.width, 0)
        return Prefix(F.pad(self.keys, more), F.pad(self.values, more), self.lengths)

    def take(self, rows: Sequence[int]) -> "Prefix":
        """Some rows, and no more padding than they need."""
        index = sent(torch.tensor(rows, dtype=torch.int64), self.keys.device)
        lengths = [self.lengths[row] for row in rows]
        start = self.width - max(lengths, default=0)
        return Prefix(self.keys[:, index, :, start:], self.values[:, index, :, start:], lengths)

    def join(self, other: "Prefix") -> "Prefix":
        """The rows of both."""
        width = max(self.width, other.width)
        ours, theirs = self.widened(width), other.widened(width)
        keys, values = (torch.cat(pair, dim=1) for pair in zip(ours[:2], theirs[:2], strict=True))
        return Prefix(keys, values, self.lengths + other.lengths)


def read_prompts(model: UniFaceForConditionalGeneration, prompts: Sequence[Sequence[int]]) -> Prefix:
    """Put prompts (`prompts.prompt_ids`) through the model, as one batch."""
    config = model.config
    ids = sent(left_pad([torch.tensor(prompt) for prompt in prompts], config.pad_id), model.device)
    visible = (ids != config.pad_id)[:, None, None, :]
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    cache = DynamicCache()
    model.hidden_states(
        ids,
        attention_mask=visible & causal,
        position_ids=positions(config, ids.shape[1], 0, ids.device),
        past_key_values=cache,
        use_cache=True,
        layout=Layout(generation=True),
    )
    keys, values = (torch.stack([getattr(layer, name) for layer in cache.layers]) for name in ("keys", "values"))
    return Prefix(keys, values, [len(prompt) for prompt in prompts])


def positions(config: UniFaceConfig, before: int, after: int, device: torch.device) -> Tensor:
    """(1, before + after) positions in the full layout, around the place of `<|soi|>`, which is T + 1."""
    soi = config.max_text_length + 1
    return torch.arange(soi - before, soi + after, device=device)[None]


class PrefixCache(Cache):
    """A transformers cache that stands before one call and keeps nothing of it; its rows see some of `prefix`."""

    def __init__(self, prefix: Prefix, rows: Tensor) -> None:
        """Prepare a call of B rows.

        Args:
            prefix: of any number of rows.
            rows: (B,) int64, the row of `prefix` that each sees.
        """
        layers = zip(prefix.keys, prefix.values, strict=True)
        super().__init__(layers=[_PrefixLayer(*layer, rows) for layer in layers])


class _PrefixLayer(DynamicLayer):
    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.rows = keys, values, rows

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        # Picked layer by layer: the rows of the call are never all there at once.
        keys = torch.cat([self.keys[self.rows], key_states], dim=2)
        return keys, torch.cat([self.values[self.rows], value_states], dim=2)


__all__ = ["Prefix", "PrefixCache", "positions", "read_prompts"]
