"""Configurations by name: `tiny`, `256px`, `512px`.

Full sizes are Show-o's on Phi-1.5, with UniF²ace's experts: 1,448 million parameters of the transformer when dense. The
image tokenizer and the encoders come on top of that.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from uniface_ray.core.errors import UserError
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration


def full(image_size: int, experts: bool, **fields: Any) -> UniFaceConfig:
    """The full-size network for square images of `image_size` pixels, a 16 x 16 patch a token."""
    if experts:
        fields = {"token_experts": {}, "sequence_experts": {}} | fields
    return UniFaceConfig(magvit_config={"image_size": image_size}, **fields)


def tiny(experts: bool, **fields: Any) -> UniFaceConfig:
    """The network of uniface-tiny for 128-px images: 8 x 8 tokens of 12 bits, a backbone of 6 million at most."""
    if experts:
        fields = {
            "token_experts": {"routed": 4, "active": 2, "width": 96, "shared_width": 256},
            "sequence_experts": {
                "resampler_width": 96,
                "resampler_heads": 4,
                "semantic_layer": -1,
                "semantic_mean": [0.5, 0.5, 0.5],
                "semantic_std": [0.5, 0.5, 0.5],
            },
            "semantic_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 96,
                "intermediate_size": 384,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": 128,
                "patch_size": 16,
                "vision_use_head": False,
            },
            "identity_config": {
                "image_size": 72,
                "crop": 0.8,
                "bgr": False,
                "widths": [16, 24, 64, 96, 128],
                "blocks": [1, 1, 2, 1],
                "embedding_size": 64,
            },
        } | fields
    return UniFaceConfig(
        **{
            "backbone_config": {
                "hidden_size": 256,
                "intermediate_size": 1024,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "max_position_embeddings": 512,
                "initializer_range": 0.04,
            },
            "magvit_config": {
                "image_size": 128,
                "base_channels": 16,
                "encoder_multipliers": [1, 1, 4, 8, 12],
                "encoder_blocks": [0, 0, 1, 1, 1],
                "decoder_multipliers": [1, 1, 2, 4, 8],
                "decoder_blocks": [0, 1, 1, 1, 1],
                "latent_bits": 12,
                "norm_groups": 8,
            },
            "text_vocab_size": 896,
            "max_text_length": 64,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        | fields
    )


PRESETS: dict[str, Callable[..., UniFaceConfig]] = {
    "tiny": tiny,
    "256px": lambda experts, **fields: full(256, experts, **fields),
    "512px": lambda experts, **fields: full(512, experts, **fields),
}


def preset(name: str, experts: bool = True, **fields: Any) -> UniFaceConfig:
    """A configuration by name.

    Args:
        name: one of `PRESETS`.
        experts: UniF²ace's experts of both levels; False is Show-o's dense network.
        fields: of `UniFaceConfig`, in place of the preset's.

    Raises:
        UserError: no preset of this name.
    """
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: the presets are {', '.join(PRESETS)}")
    return PRESETS[name](experts, **fields)


def parameters(model: UniFaceForConditionalGeneration, learning: bool = False) -> dict[str, int]:
    """Parameters by part: `total` and `active` of the transformer, of which `sequence_experts`; `encoders`; `magvit`.

    Active is what one token passes through: of each layer's token-level experts, its own group's router and shared
    expert, and the K routed ones that are chosen; embeddings, head and sequence-level experts are counted whole.

    Args:
        model: whose.
        learning: count those only that are not frozen.
    """

    def count(*modules: nn.Module) -> int:
        return sum(_count(one, learning) for module in modules for one in module.parameters())

    total = count(model.showo)
    active = total
    if (experts := model.config.token_experts) is not None:
        for layer in model.showo.model.layers:
            idle = 1 - experts.active / (2 * experts.routed)
            active -= round(count(layer.mlp.routed) * idle)
            active -= (count(layer.mlp.shared) + _count(layer.mlp.router, learning)) // 2
    sequence = count(
        *(layer.sequence_experts for layer in model.showo.model.layers if hasattr(layer, "sequence_experts"))
    )
    encoders = count(model.encoders) if hasattr(model, "encoders") else 0
    return {
        "total": total,
        "active": active,
        "sequence_experts": sequence,
        "encoders": encoders,
        "magvit": count(model.magvit),
    }


def _count(parameter: nn.Parameter, learning: bool) -> int:
    return parameter.numel() if parameter.requires_grad or not learning else 0


__all__ = ["PRESETS", "parameters", "preset"]
