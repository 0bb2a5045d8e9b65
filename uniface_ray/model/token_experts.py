"""Grouped experts in place of the feed-forward network.

Letters in shapes: B rows, L positions, T = B * L tokens, D hidden width, N routed experts a group, K active ones.
Group 0 is understanding, group 1 generation. Experts of both groups lie in one tensor, so that a batch of mixed rows
is one grouped matrix product; a token's expert ids are its group's alone, so routing never crosses groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PhiConfig
from transformers.activations import ACT2FN
from transformers.integrations.moe import use_experts_implementation

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.routing import Routing

GROUPS = 2


@use_experts_implementation(has_gate=False, has_bias=True)
class Experts(nn.Module):
    """Two-layer networks of one width, a token through K of them, weighted.

    transformers runs them as grouped matrix products over tokens sorted by expert (`experts_implementation`, default
    "grouped_mm"), so that the cost is that of the experts chosen. The body of `forward` says the same as a loop.
    """

    def __init__(self, config: PhiConfig, num_experts: int, width: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.act_fn = ACT2FN[config.hidden_act]
        self.up_proj = nn.Parameter(torch.empty(num_experts, width, config.hidden_size))
        self.up_proj_bias = nn.Parameter(torch.zeros(num_experts, width))
        self.down_proj = nn.Parameter(torch.empty(num_experts, config.hidden_size, width))
        self.down_proj_bias = nn.Parameter(torch.zeros(num_experts, config.hidden_size))
        nn.init.normal_(self.up_proj, std=config.initializer_range)
        nn.init.normal_(self.down_proj, std=config.initializer_range)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Tokens (T, D), expert ids (T, K) and weights (T, K) -> (T, D)."""
        output = torch.zeros_like(hidden_states)
        for expert in range(self.num_experts):
            token, place = torch.where(top_k_index == expert)
            inner = self.act_fn(F.linear(hidden_states[token], self.up_proj[expert], self.up_proj_bias[expert]))
            outer = F.linear(inner, self.down_proj[expert], self.down_proj_bias[expert])
            output.index_add_(0, token, (outer * top_k_weights[token, place, None]).to(output.dtype))
        return output


class TokenExperts(nn.Module):
    """`y = shared(x) + Σ_{i in top K} g_i routed_i(x)`, with `g = softmax(router x)` in float32 (DeepSeekMoE).

    The shared expert is not weighted; the paper's figure leaves that open.
    """

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__()
        experts, backbone = config.token_experts, config.backbone_config
        self.active, self.normalize = experts.active, experts.normalize_gates
        self.router = nn.Parameter(torch.empty(GROUPS, experts.routed, backbone.hidden_size))
        nn.init.normal_(self.router, std=backbone.initializer_range)
        self.shared = Experts(backbone, GROUPS, experts.shared_width)
        self.routed = Experts(backbone, GROUPS * experts.routed, experts.width)

    def forward(self, hidden_states: Tensor, routing: Routing) -> Tensor:
        """(B, L, D) -> (B, L, D); adds the layer's balance to `routing`."""
        tokens = hidden_states.flatten(0, 1)
        if routing.group is not None and routing.balance is None and self._takes_all(hidden_states.shape[1]):
            return self._all_of(routing.group, tokens).view_as(hidden_states)
        group = routing.generation.long().repeat_interleave(hidden_states.shape[1])
        scores = self.scores(tokens, group)
        gates, chosen = scores.topk(self.active, dim=-1)
        if routing.balance is not None:
            routing.balance.append(balance(scores, chosen, group, routing.counted.flatten()))
        if self.normalize:
            gates = gates / gates.sum(-1, keepdim=True)
        shared = self.shared(tokens, group[:, None], torch.ones_like(gates[:, :1]))
        routed = self.routed(tokens, chosen + group[:, None] * scores.shape[-1], gates)
        return (shared + routed).view_as(hidden_states)

    def _takes_all(self, length: int) -> bool:
        """Whether a group's experts all compute every token, those that are not chosen with a gate of 0.

        Up to twice the arithmetic, but four matrix products without sorting, and nothing that waits for the device (as
        grouped products do on most) or that torch.compile takes minutes for. Steps of one position are bound by
        the weights they read, which many rows read nearly all of anyway; they can then be recorded. Experts that are
        wrapped, by LoRA for one, must be called: their weights alone are not what they compute.
        """
        wrapped = type(self.shared) is not Experts or type(self.routed) is not Experts
        return not wrapped and (length == 1 or self.router.shape[1] <= 2 * self.active)

    def _all_of(self, group: int, tokens: Tensor) -> Tensor:
        """Tokens (T, D), all of one group -> (T, D)."""
        with torch.autocast(tokens.device.type, enabled=False):
            scores = F.linear(tokens.float(), self.router[group].float()).softmax(-1)
        values, chosen = scores.topk(self.active, dim=-1)
        if self.normalize:
            values = values / values.sum(-1, keepdim=True)
        gates = torch.zeros_like(scores).scatter(1, chosen, values).to(tokens.dtype)
        shared = self.shared
        inner = shared.act_fn(F.linear(tokens, shared.up_proj[group], shared.up_proj_bias[group]))
        output = F.linear(inner, shared.down_proj[group], shared.down_proj_bias[group])
        routed = self.routed
        every = routed.up_proj, routed.up_proj_bias, routed.down_proj, routed.down_proj_bias
        up, up_bias, down, down_bias = (of_both.chunk(GROUPS)[group] for of_both in every)
        inner = routed.act_fn(F.linear(tokens, up.flatten(0, 1), up_bias.flatten()))
        gated = (inner.unflatten(-1, up.shape[:2]) * gates[..., None]).transpose(0, 1)
        return output + torch.bmm(gated, down.transpose(1, 2)).sum(0) + gates @ down_bias

    def scores(self, tokens: Tensor, group: Tensor) -> Tensor:
        """Tokens (T, D) of groups (T,) -> probabilities (T, N), float32, of their own group's experts."""
        with torch.autocast(tokens.device.type, enabled=False):
            logits = F.linear(tokens.float(), self.router.float().flatten(0, 1)).unflatten(-1, self.router.shape[:2])
        own = group[:, None, None].expand(-1, 1, logits.shape[-1])
        return logits.gather(1, own)[:, 0].softmax(-1)


def balance(scores: Tensor, chosen: Tensor, group: Tensor, counted: Tensor) -> Tensor:
    """Balance loss of each group, `Σ_i f_i P_i`: 1 for uniform routing, more for uneven (DeepSeekMoE).

    Args:
        scores: (T, N) routing probabilities.
        chosen: (T, K) experts selected.
        group: (T,) group of each token.
        counted: (T,) bool, False for padding.

    Returns:
        (2,) float32; 0 for a group without tokens.
    """
    experts, active = scores.shape[-1], chosen.shape[-1]
    member = torch.stack([counted & (group == index) for index in range(GROUPS)]).float()
    member = member / member.sum(1, keepdim=True).clamp(min=1)
    selected = torch.zeros_like(scores).scatter(1, chosen, 1.0)
    frequency = member @ selected * (experts / active)
    return (frequency * (member @ scores)).sum(1)


__all__ = ["GROUPS", "Experts", "TokenExperts", "balance"]
