"""Checkpoints in every shape they come in, and what is said of those that do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model.conftest import SHOWO
from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, showo

MAGVIT = SHOWO / "magvitv2.safetensors"


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return load_file(SHOWO / "showo.safetensors")


def shard(weights: dict[str, Tensor], folder: Path) -> Path:
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    return path


@pytest.mark.parametrize("give_folder", [False, True])
def test_shards_load_as_one_file_does(
    model: UniFaceForConditionalGeneration,
    config: UniFaceConfig,
    weights: dict[str, Tensor],
    tmp_path: Path,
    give_folder: bool,
) -> None:
    index = shard(weights, tmp_path)
    loaded = showo.load(tmp_path if give_folder else index, config, magvit=MAGVIT)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_bfloat16_weights_load_as_their_rounded_selves(
    config: UniFaceConfig, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    rounded = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(rounded, tmp_path / "model.safetensors")
    loaded = showo.load(tmp_path, config, magvit=MAGVIT)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.showo.lm_head.weight, rounded["showo.lm_head.weight"].float())


def test_a_loaded_model_is_off_the_meta_device_and_in_eval_mode(model: UniFaceForConditionalGeneration) -> None:
    assert not model.training
    assert not [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]


def test_missing_surplus_and_misshapen_tensors_are_all_named(
    config: UniFaceConfig, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    weights["showo.extra.weight"] = torch.zeros(1)
    weights["showo.lm_head.bias"] = torch.zeros(3)
    del weights["showo.model.final_layernorm.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        showo.load(tmp_path, config, magvit=MAGVIT)
    message = str(caught.value)
    assert "missing showo.model.final_layernorm.bias" in message
    assert "surplus showo.extra.weight" in message
    assert "showo.lm_head.bias is (3,), config says (567,)" in message


@pytest.mark.parametrize("content", [None, b"", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_said(config: UniFaceConfig, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        showo.load(path, config, magvit=MAGVIT)


def test_from_pretrained_refuses_weights_that_do_not_fit_by_name(
    model: UniFaceForConditionalGeneration, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["showo.extra.weight"] = torch.zeros(1)
    weights["showo.lm_head.bias"] = torch.zeros(3)
    del weights["showo.model.final_layernorm.bias"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        UniFaceForConditionalGeneration.from_pretrained(tmp_path)
    message = str(caught.value)
    assert "missing showo.model.final_layernorm.bias" in message
    assert "surplus showo.extra.weight" in message
    assert "showo.lm_head.bias is (3,), config says (567,)" in message
