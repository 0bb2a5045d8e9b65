"""From a dense model to one with experts, which computes at the start what the dense one did, or nearly."""

import torch
from torch import Tensor, nn

from uniface_ray.core.errors import UserError
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.token_experts import GROUPS, Experts, TokenExperts

# Of a new router's logits, where it has to choose: gates are equal to a percent, and choices are spread.
_ROUTER_SPREAD = 0.01


@torch.no_grad()
def grow(dense: UniFaceForConditionalGeneration, config: UniFaceConfig) -> UniFaceForConditionalGeneration:
    """A model of `config`, begun with the weights of a dense one. The paper does not say how its experts begin.

    Token-level experts are slices of the feed-forward network, the same in both groups, units ordered by the product of
    their weights' norms: the first go to the shared expert, the next are dealt to the routed ones, what is left is
    dropped. Routers begin neutral, gates (nearly) equal. A routed slice is scaled up by what its gate and its not being
    chosen take away, so that a layer's mean output stays.

    - Shared expert as wide as the network: outputs are equal; routed experts begin silent, with weights to learn from.
    - Shared and routed experts that hold all units between them, all active: outputs are equal.
    - Otherwise units are missing: those dropped and those of experts not chosen. With the paper's proportions (shared
      1/4 of the width, 8 routed of 1/16, 4 active) a token has half of its units, and outputs are near the dense
      ones, not equal: `tests/model/test_growth.py` says how near at toy size. Such a model is there to be trained on.

    Sequence-level experts begin at scale 0, so they change nothing. Their encoders begin with random weights: load
    them, a released CLIP into `encoders.semantic.model`, AdaFace with `identity.load_adaface`.

    Args:
        dense: without experts.
        config: with experts, and the sizes of `dense` otherwise.

    Returns:
        A new model in eval mode, with the dense one's floating type and device.

    Raises:
        UserError: a model that has experts already, or a config of another size.
    """
    if dense.has_experts:
        raise UserError("grow begins with a dense model, but this one has experts: grow the model it came from")
    grown = UniFaceForConditionalGeneration(config).to(dense.device, dense.dtype).eval()
    weights = {key: tensor for key, tensor in dense.state_dict().items() if key in grown.state_dict()}
    _check_sizes(grown, weights)
    grown.load_state_dict(weights, strict=False)
    if config.token_experts is not None:
        for new, old in zip(grown.showo.model.layers, dense.showo.model.layers, strict=True):
            _slice(new.mlp, old.mlp.fc1, old.mlp.fc2)
    return grown


def _check_sizes(grown: UniFaceForConditionalGeneration, weights: dict[str, Tensor]) -> None:
    expected = grown.state_dict()
    for key, tensor in weights.items():
        if tensor.shape != expected[key].shape:
            given, said = tuple(tensor.shape), tuple(expected[key].shape)
            raise UserError(f"{key} of the dense model is {given}, config says {said}: only experts may be new")


def _slice(experts: TokenExperts, fc1: nn.Linear, fc2: nn.Linear) -> None:
    """Fill the experts of one layer from its dense network."""
    order = (fc1.weight.float().norm(dim=1) * fc2.weight.float().norm(dim=0)).argsort(descending=True)
    shared_width = experts.shared.up_proj.shape[1]
    routed, width = experts.router.shape[1], experts.routed.up_proj.shape[1]
    rest = order[shared_width:]
    silent = len(rest) == 0  # the shared expert does it all
    gate = 1 / experts.active if experts.normalize else 1 / routed
    scale = 0.0 if silent else routed / experts.active / gate
    dealt = order if silent else rest
    for group in range(GROUPS):
        _fill(experts.shared, group, order[:shared_width], fc1, fc2, scale=1.0)
        experts.shared.down_proj_bias[group] = fc2.bias
        for expert in range(routed):
            units = dealt[expert::routed][:width]
            _fill(experts.routed, group * routed + expert, units, fc1, fc2, scale)
    spread = _ROUTER_SPREAD / experts.router.shape[2] ** 0.5
    nn.init.normal_(experts.router, std=spread if experts.active < routed else 0.0)


def _fill(experts: Experts, index: int, units: Tensor, fc1: nn.Linear, fc2: nn.Linear, scale: float) -> None:
    """Give one expert some units of the dense network; places that are left over stay silent, with weights to learn."""
    count = len(units)
    experts.up_proj[index, :count] = fc1.weight[units]
    experts.up_proj_bias[index, :count] = fc1.bias[units]
    experts.down_proj[index] = 0.0
    experts.down_proj[index, :, :count] = fc2.weight[:, units] * scale
    experts.down_proj_bias[index] = 0.0


__all__ = ["grow"]
