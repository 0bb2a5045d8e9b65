"""An average of the weights over the last steps, which is steadier than they are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of what learns; without a decay, the weights themselves.

    Args:
        followed: parameters by name; it begins with their values.
        decay: of a step, 0..1; 0 keeps nothing.
    """

    def __init__(self, followed: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._followed = dict(followed) if decay else {}
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._followed.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimizer."""
        for name, value in self.values.items():
            value.lerp_(self._followed[name], 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages while this lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._followed.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)
