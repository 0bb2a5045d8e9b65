"""A network to begin the training of the language model with, or to go on with."""

from pathlib import Path

import torch
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
    for layer in model.showo.model.layers:
        nn.init.constant_(layer.sequence_experts.scale, _SEQUENCE_SCALE)
    return _with_encoders(model, identity, semantic)


def trained_model(folder: Path, identity: nn.Module, semantic: nn.Module) -> UniFaceForConditionalGeneration:
    """The model in `folder` to go on training, float32, with these encoders in the place of its own."""
    return _with_encoders(
        UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), identity, semantic
    )


def _with_encoders(
    model: UniFaceForConditionalGeneration, identity: nn.Module, semantic: nn.Module
) -> UniFaceForConditionalGeneration:
    model.encoders.identity.model.load_state_dict(identity.state_dict())
    model.encoders.semantic.model.load_state_dict(semantic.state_dict())
    for part in (model.magvit, model.encoders.identity, model.encoders.semantic):
        part.requires_grad_(False).eval()
    return model
