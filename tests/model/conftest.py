"""The reference checkpoint, loaded once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, showo

SHOWO = Path(__file__).parents[1] / "fixtures" / "showo"


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """Sizes, prompts and questions of the reference."""
    return json.loads((SHOWO / "config.json").read_text())


@pytest.fixture(scope="session")
def numbers() -> Mapping[str, Tensor]:
    """What the reference's transformer computed."""
    return load_file(SHOWO / "showo_io.safetensors")


@pytest.fixture(scope="session")
def config(reference: dict[str, Any]) -> UniFaceConfig:
    llm, magvit = dict(reference["llm"]), reference["magvit"]
    levels = {"multipliers": magvit["ch_mult"], "blocks": magvit["num_res_blocks"]}
    return UniFaceConfig(
        backbone_config={name: value for name, value in llm.items() if name != "qk_layernorm"},
        magvit_config={
            "image_size": 16,  # 4 x 4 tokens, as the reference's sequences have
            "base_channels": magvit["ch"],
            **{f"{half}_{what}": value for half in ("encoder", "decoder") for what, value in levels.items()},
            "latent_bits": magvit["z_channels"],
        },
        text_vocab_size=reference["text_vocab"],
        max_text_length=reference["max_text_len"],
        bos_token_id=reference["bos_eos_id"],
        eos_token_id=reference["bos_eos_id"],
    )


@pytest.fixture(scope="session")
def model(config: UniFaceConfig) -> UniFaceForConditionalGeneration:
    return showo.load(SHOWO / "showo.safetensors", config, magvit=SHOWO / "magvitv2.safetensors")
