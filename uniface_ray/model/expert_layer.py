"""A Phi layer with experts."""

from typing import Any

from torch import Tensor
from transformers.models.phi.modeling_phi import PhiDecoderLayer

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.routing import Routing
from uniface_ray.model.sequence_experts import SequenceExperts
from uniface_ray.model.token_experts import TokenExperts


class ExpertLayer(PhiDecoderLayer):
    """`x + Attention(LN x) + TokenExperts(LN x)`, then `x + SequenceExperts(x)` at image positions.

    The paper draws attention and experts one after the other, with residuals left out. Phi's parallel block is kept, so
    that its weights keep their meaning. Either kind of experts can be left out.
    """

    def __init__(self, config: UniFaceConfig, layer_idx: int) -> None:
        super().__init__(config.backbone_config, layer_idx)
        self.has_token_experts = config.token_experts is not None
        if self.has_token_experts:
            self.mlp = TokenExperts(config)
        if config.sequence_experts is not None:
            self.sequence_experts = SequenceExperts(config)

    def forward(self, hidden_states: Tensor, routing: Routing | None = None, **kwargs: Any) -> Tensor:
        """(B, L, D) -> (B, L, D); other arguments are those of a Phi layer."""
        assert routing is not None  # a keyword, because it comes through transformers' own loop over layers
        normed = self.input_layernorm(hidden_states)
        attended, _ = self.self_attn(hidden_states=normed, **kwargs)
        fed = self.mlp(normed, routing) if self.has_token_experts else self.mlp(normed)
        hidden_states = hidden_states + self.resid_dropout(attended) + self.resid_dropout(fed)
        if routing.images is not None:
            mixed = self.sequence_experts(hidden_states, routing, routing.images)
            hidden_states = hidden_states + self.resid_dropout(mixed)
        return hidden_states


__all__ = ["ExpertLayer"]
