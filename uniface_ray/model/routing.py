"""What the experts of all layers know of a call: whose row it is, where its images are, what is seen of them.

Letters in shapes: B rows, L positions, N image tokens, R the resampler's width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.features import ImageFeatures


@dataclass(frozen=True, slots=True)
class Layout:
    """What all rows of a call have in common, from who knows it: to read it in the ids is to wait for the device.

    Attributes:
        generation: they draw.
        image: position of their first image token; None where the call has no image.
    """

    generation: bool
    image: int | None = None


@dataclass(slots=True)
class Images:
    """The image positions of a call.

    Attributes:
        positions: (B, L) bool.
        places: (B, L) int64, at image positions which of the row's N tokens it is.
        features: (B, N, R) resampled features by expert, of those experts that any row may choose.
    """

    positions: Tensor
    places: Tensor
    features: dict[str, Tensor]


@dataclass(slots=True)
class Routing:
    """Given to every layer of a call.

    Attributes:
        generation: (B,) bool, True for rows that draw.
        counted: (B, L) bool, tokens that count in the balance loss: no padding.
        group: of all rows, where it is known without looking: 0 reads, 1 draws.
        images: None where the call has no image positions, as in text decoding.
        balance: each layer's (2,) balance loss, gathered while gradients are; None without them.
    """

    generation: Tensor
    counted: Tensor
    group: int | None = None
    images: Images | None = None
    balance: list[Tensor] | None = None


def rows_that_draw(config: UniFaceConfig, input_ids: Tensor) -> Tensor:
    """(B,) bool: rows that hold the task token of text to image."""
    return (input_ids == config.special_id("<|t2i|>")).any(1)


def masked_share(config: UniFaceConfig, input_ids: Tensor) -> Tensor:
    """(B,) float32: the share of a row's image tokens that are masked; 0 without image tokens."""
    masked = (input_ids == config.mask_token_id).sum(1)
    return masked / (input_ids >= config.image_token_offset).sum(1).clamp(min=1)


def image_positions(
    config: UniFaceConfig, input_ids: Tensor, generation: Tensor, features: ImageFeatures | None
) -> tuple[Tensor, Tensor] | None:
    """Where the images of a call are (see `Images`), or None where it has none.

    An image must be whole in one call, so a call of one position is text. When compiled, images are taken for granted
    in longer calls, and nothing is checked: looking would break the graph.

    Raises:
        ValueError: a row with more image tokens than the model has; features that are missing or of other rows.
    """
    if input_ids.shape[1] == 1:
        return None
    positions = input_ids >= config.image_token_offset
    counts = positions.sum(1)
    if not torch.compiler.is_compiling():
        reads = torch.where(generation, 0, counts)
        most, most_read = torch.stack([counts.max(), reads.max()]).tolist()
        if most == 0:
            return None
        if most > config.num_image_tokens:
            raise ValueError(f"a row has {most} image tokens, but this model takes {config.num_image_tokens}")
        _check_features(config, features, len(input_ids), needed=most_read > 0)
    return positions, (positions.cumsum(1) - 1).clamp(0, config.num_image_tokens - 1)


def placed_images(
    config: UniFaceConfig, input_ids: Tensor, layout: Layout, features: ImageFeatures | None
) -> tuple[Tensor, Tensor] | None:
    """As `image_positions`, of rows whose layout is known: nothing waits for the device.

    Raises:
        ValueError: features that are missing or of other rows.
    """
    if layout.image is None:
        return None
    _check_features(config, features, len(input_ids), needed=not layout.generation)
    place = torch.arange(input_ids.shape[1], device=input_ids.device) - layout.image
    inside = (place >= 0) & (place < config.num_image_tokens)
    shape = input_ids.shape
    return inside.expand(shape), place.clamp(0, config.num_image_tokens - 1).expand(shape)


def _check_features(config: UniFaceConfig, features: ImageFeatures | None, rows: int, needed: bool) -> None:
    for name in config.sequence_experts.feature_experts:
        if name == "noise":
            continue
        tensor = getattr(features, name, None)
        if tensor is None and needed:
            raise ValueError(f"rows that read an image need its {name} features: give `model.image_features(pixels)`")
        expected = (rows, config.num_image_tokens, config.sequence_experts.resampler_width)
        if tensor is not None and tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name} features are {tuple(tensor.shape)}, but these rows need {expected}: one image a row, see "
                "ImageFeatures.index_select"
            )


def given_features(features: ImageFeatures | None, noise: Tensor | None) -> dict[str, Tensor]:
    """Features by expert, without those that are not there."""
    named = {
        "semantic": features.semantic if features is not None else None,
        "identity": features.identity if features is not None else None,
        "noise": noise,
    }
    return {name: tensor for name, tensor in named.items() if tensor is not None}


__all__ = [
    "Images",
    "Layout",
    "Routing",
    "given_features",
    "image_positions",
    "masked_share",
    "placed_images",
    "rows_that_draw",
]
