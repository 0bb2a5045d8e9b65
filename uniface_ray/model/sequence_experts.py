"""Grouped experts over whole sequences of image tokens.

Letters in shapes: B rows, L positions, D hidden width, N image tokens, R the resampler's width, S experts of a group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.routing import Images, Routing


class SequenceExperts(nn.Module):
    """`scale * Σ_{e in top K} g_e E_e(x)` at image positions, 0 elsewhere; x the normalised states.

    - copy: `E(x) = x`; zero: `E(x) = 0`.
    - semantic, identity, noise: `E(x) = w x + (1 - w) S(F(X))`, with `(w, 1 - w)` a softmax of each token's own two
      logits, F the encoder (of the mask ratio for noise), and S the resampler with this layer's projection behind it.
    - g is a softmax over the experts of the row's task, in float32, of its pooled image tokens.

    The layer adds the outcome to its input. Whether the paper keeps that residual is not stated; with it, as in MoE++,
    zero leaves the sequence as it is and copy amplifies it. A zero expert keeps its share of the gates, where MoE++
    gives the share to the others: with two experts chosen the router would have nothing to learn there. `scale`, one
    number a channel, begins at 0, so that a model which gets these experts computes what it did before.
    """

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__()
        self.config = config.sequence_experts
        width = config.backbone_config.hidden_size
        self.norm = nn.LayerNorm(width, eps=config.backbone_config.layer_norm_eps)
        self.router = nn.Parameter(torch.empty(2, len(self.config.understanding), width))
        nn.init.normal_(self.router, std=config.backbone_config.initializer_range)
        names = self.config.feature_experts
        self.project = nn.ModuleDict({name: nn.Linear(self.config.resampler_width, width) for name in names})
        self.gate = nn.ModuleDict({name: nn.Linear(width, 2, bias=False) for name in names})
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, hidden_states: Tensor, routing: Routing, images: Images) -> Tensor:
        """(B, L, D) -> what to add to it, (B, L, D)."""
        x = self.norm(hidden_states)
        slots = self.slot_gates(x, routing.generation, images.positions)
        mixed = self._gate(slots, routing.generation, "copy").to(x.dtype) * x
        rows = torch.arange(len(x), device=x.device)[:, None]
        for name, features in images.features.items():
            feature = self.project[name](features.to(x.dtype))[rows, images.places]
            weight = self.gate[name](x).softmax(-1)
            expert = weight[..., :1] * x + weight[..., 1:] * feature
            mixed = mixed + self._gate(slots, routing.generation, name).to(x.dtype) * expert
        return torch.where(images.positions[..., None], self.scale * mixed, 0)

    def slot_gates(self, x: Tensor, generation: Tensor, positions: Tensor) -> Tensor:
        """Normalised states (B, L, D) -> gates of the row's own group (B, S), float32; 0 where not chosen."""
        chosen = F.one_hot(positions.int().argmax(1), x.shape[1]) if self.config.pooling == "first" else positions
        share = chosen.float() / chosen.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(x.device.type, enabled=False):
            pooled = (share[:, :, None] * x.float()).sum(1)
            logits = torch.einsum("bd,gsd->bgs", pooled, self.router.float())
        scores = torch.where(generation[:, None], logits[:, 1], logits[:, 0]).softmax(-1)
        values, slots = scores.topk(self.config.active, dim=-1)
        if self.config.normalize_gates:
            values = values / values.sum(-1, keepdim=True)
        return torch.zeros_like(scores).scatter(1, slots, values)

    def _gate(self, slots: Tensor, generation: Tensor, name: str) -> Tensor:
        """Gates (B, S) -> that of all experts of one name together (B, 1, 1)."""
        understands, draws = (
            sum((slots[:, slot] for slot, kind in enumerate(group) if kind == name), torch.zeros_like(slots[:, 0]))
            for group in (self.config.understanding, self.config.generation)
        )
        return torch.where(generation, draws, understands)[:, None, None]


__all__ = ["SequenceExperts"]
