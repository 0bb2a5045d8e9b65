"""What calls of the model give back."""

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


@dataclass
class UniFaceStates(BaseModelOutputWithPast):
    """Last states and cache.

    Attributes:
        balance_loss: (2,), of understanding and generation, the mean of all layers' (see `token_experts.balance`); None
            without token-level experts or while gradients are off.
    """

    balance_loss: Tensor | None = None


@dataclass
class UniFaceOutput(CausalLMOutputWithPast):
    """Logits, loss and cache.

    Attributes:
        balance_loss: as in `UniFaceStates`; it is part of `loss`, with its weight.
    """

    balance_loss: Tensor | None = None


__all__ = ["UniFaceOutput", "UniFaceStates"]
