"""A network to begin the training of the language model with."""

from torch import nn

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration

# The experts' usual start of 0 is for networks that already can do without them.
_SEQUENCE_SCALE = 0.3


def new_model(
    config: UniFaceConfig, magvit: nn.Module, identity: nn.Module, semantic: nn.Module
) -> UniFaceForConditionalGeneration:
    """A network to train, with the parts that are trained already in their places and frozen; others are random."""
    model = UniFaceForConditionalGeneration(config)
    model.magvit.load_state_dict(magvit.state_dict())
    model.encoders.identity.model.load_state_dict(identity.state_dict())
    model.encoders.semantic.model.load_state_dict(semantic.state_dict())
    for part in (model.magvit, model.encoders.identity, model.encoders.semantic):
        part.requires_grad_(False).eval()
    for layer in model.showo.model.layers:
        nn.init.constant_(layer.sequence_experts.scale, _SEQUENCE_SCALE)
    return model
