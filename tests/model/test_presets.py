"""Sizes by name, counted without making the weights."""

import pytest
import torch

from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.presets import parameters, preset


def empty(name: str, **fields: object) -> UniFaceForConditionalGeneration:
    with torch.device("meta"):
        return UniFaceForConditionalGeneration(preset(name, **fields))


def test_full_size_is_show_os_when_dense_and_has_1_85_billion_with_token_level_experts() -> None:
    dense = parameters(empty("256px", experts=False))
    assert dense["total"] == dense["active"] == 1_448_176_770
    assert parameters(empty("256px", sequence_experts=None)) == dense | {
        "total": 1_852_550_274,
        "active": 1_046_015_106,
    }


def test_both_levels_and_the_larger_image_add_little() -> None:
    model = empty("512px")
    counts = parameters(model)
    assert counts["total"] == 1_852_550_274 + counts["sequence_experts"]
    assert counts["active"] == 1_046_015_106 + counts["sequence_experts"]
    assert counts["sequence_experts"] == 38_731_776
    assert model.config.num_image_tokens == 1024
    assert model.config.vocab_size == 58_498


def test_tiny_is_tiny() -> None:
    model = empty("tiny")
    counts = parameters(model)
    assert sum(parameter.numel() for parameter in model.showo.model.layers.parameters()) <= 6_000_000
    assert counts["encoders"] <= 2_000_000
    assert counts["active"] < parameters(empty("tiny", experts=False))["active"]
    assert model.config.magvit_config.image_size == 128


def test_other_names_are_refused() -> None:
    with pytest.raises(UserError, match="'1024px': the presets are tiny, 256px, 512px"):
        preset("1024px")
