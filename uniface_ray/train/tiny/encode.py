"""What the frozen parts of the model see of faces: image codes and the encoders' features, of fresh views each step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.train.tiny.augment import random_views, wild_views


@dataclass(frozen=True)
class Seen:
    """One view of each of B faces.

    Attributes:
        codes: (B, N) int64.
        told: (B, attributes) bool, what can be told of the view.
        semantic: (B, patches, width) floats, before the resampler.
        identity: (B, cells, width) floats, before the resampler.
    """

    codes: Tensor
    told: Tensor
    semantic: Tensor
    identity: Tensor


@torch.no_grad()
def see(
    model: UniFaceForConditionalGeneration, faces: Tensor, generator: torch.Generator, wild: float, caps: float
) -> Seen:
    """Views of faces (B, 3, side, side) uint8: a share of `wild` at the end is wild (see `wild_views`), the others are
    slightly changed."""
    size, first = model.config.magvit_config.image_size, len(faces) - round(len(faces) * wild)
    mild = random_views(faces[:first], size, generator, strength=0.5)
    changed, told = wild_views(faces[first:], size, generator, caps)
    pixels, told = torch.cat([mild, changed]), torch.cat([told.new_ones(first, told.shape[1]), told])
    return Seen(
        model.encode_images(pixels),
        told,
        model.encoders.semantic(pixels).float(),
        model.encoders.identity(pixels).float(),
    )


@torch.no_grad()
def codes_to_draw(model: UniFaceForConditionalGeneration, faces: Tensor, generator: torch.Generator) -> Tensor:
    """Codes (B, N) of faces nearly as they are: what is drawn should be as well placed as they."""
    return model.encode_images(random_views(faces, model.config.magvit_config.image_size, generator, strength=0.2))
