"""Models with experts, small enough to compute in milliseconds."""

from typing import Any

import torch
from torch import Tensor

from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.prompts import generation_ids, left_pad, understanding_ids


def toy_config(**changes: Any) -> UniFaceConfig:
    """Experts of both levels, 8 x 8 image tokens of 32 x 32 pixels; `changes` are fields of UniFaceConfig."""
    fields: dict[str, Any] = {
        "backbone_config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
        },
        "magvit_config": {
            "image_size": 32,
            "base_channels": 8,
            "encoder_multipliers": [1, 1, 2],
            "encoder_blocks": [1, 1, 1],
            "decoder_multipliers": [1, 1, 2],
            "decoder_blocks": [1, 1, 1],
            "latent_bits": 6,
            "norm_groups": 4,
        },
        "text_vocab_size": 300,
        "max_text_length": 8,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "token_experts": {"routed": 4, "active": 2, "width": 32, "shared_width": 64},
        "sequence_experts": {"resampler_width": 32, "resampler_heads": 2},
        "semantic_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        "identity_config": {"image_size": 32, "widths": [8, 8, 16], "blocks": [1, 1]},
    }
    return UniFaceConfig(**fields | changes)


def toy_model(**changes: Any) -> UniFaceForConditionalGeneration:
    """Random weights, the sequence-level experts at work from the start, in eval mode."""
    torch.manual_seed(0)
    model = UniFaceForConditionalGeneration(toy_config(**changes)).eval()
    for layer in model.showo.model.layers:
        if hasattr(layer, "sequence_experts"):
            torch.nn.init.normal_(layer.sequence_experts.scale)
            torch.nn.init.normal_(layer.sequence_experts.router)
    return model


def pixels(count: int, seed: int = 0) -> Tensor:
    """(count, 3, 32, 32) in -1..1."""
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reading_rows(model: UniFaceForConditionalGeneration, count: int) -> tuple[list[Tensor], ImageFeatures | None]:
    """Caption prompts of different lengths about different images, and the images' features."""
    codes = model.encode_images(pixels(count))
    rows = [understanding_ids(model.config, range(5, 6 + index % 4), code) for index, code in enumerate(codes)]
    return rows, model.image_features(pixels(count))


def drawing_ids(config: UniFaceConfig, count: int) -> Tensor:
    """(count, T + N + 3): prompts of different lengths over images of which different shares are masked."""
    torch.manual_seed(1)
    rows = []
    for index in range(count):
        codes = torch.randint(config.codebook_size, (config.num_image_tokens,))
        row = generation_ids(config, range(5, 6 + index % 4), codes)
        image = (row >= config.image_token_offset).nonzero()[:, 0]
        row[image[torch.randperm(len(image))[: 7 * (index + 1)]]] = config.mask_token_id
        rows.append(row)
    return left_pad(rows, config.pad_id)
