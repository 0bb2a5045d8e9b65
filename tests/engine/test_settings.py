"""Device, precision and model files: what is decided, and what is said of mistakes."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from safetensors.torch import load as load_file_bytes
from safetensors.torch import save_file

from tests.tiny import save_random_model
from uniface_ray.core.compose import compose
from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.engine_config import EngineConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.device import resolve_device, resolve_dtype
from uniface_ray.engine.null import IMAGE_SIZE
from uniface_ray.engine.weights import check_model


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")],
)
def test_devices(device: str, gpus: int, expected: str) -> None:
    assert resolve_device(EngineConfig(device=device), gpus) == expected


def test_what_is_measured_is_read_at_the_size_of_the_model() -> None:
    """Real and drawn faces are compared: the step that asks the model and the one that does not see them alike."""
    config = compose("caption", ["source=demo", "sink.path=out", "engine.kind=null"])
    measured = config.model_copy(update={"task": MeasureConfig(of="faces")})
    assert check_engine(measured) == check_model(config.model, config.storage)
    assert build_engine(measured, "cpu", "float32").image_size == check_engine(measured).image_size
    assert check_engine(config).image_size == build_engine(config, "cpu", "float32").image_size == IMAGE_SIZE


def test_a_gpu_is_for_engines_with_a_model_or_with_models_beside_them() -> None:
    nothing = EngineConfig(kind="null")
    assert resolve_device(nothing, gpus=1) == "cpu"
    assert resolve_device(nothing, gpus=1, looks=True) == "cuda"


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0)])
def test_a_device_that_is_not_there_is_named(device: str, gpus: int) -> None:
    with pytest.raises(UserError, match=rf"engine\.device is {device}"):
        resolve_device(EngineConfig(device=device), gpus)


def test_cuda_graphs_are_refused_on_a_cpu_only() -> None:
    with pytest.raises(UserError, match=r"engine\.cuda_graphs is true, but the replicas run on a CPU"):
        resolve_device(EngineConfig(cuda_graphs=True), gpus=0)
    assert resolve_device(EngineConfig(cuda_graphs=True), gpus=1) == "cuda"


def test_compiling_on_a_cpu_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device(EngineConfig(compile=True), gpus=1) == "cuda"
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"engine\.compile is true, but there is no C\+\+ compiler no-such-compiler"):
        resolve_device(EngineConfig(compile=True), gpus=0)


@pytest.mark.parametrize("switch", ["compile", "cuda_graphs"])
def test_switches_of_our_model_are_refused_for_others(switch: str) -> None:
    with pytest.raises(ValidationError, match=f"{switch} is true, but works on models of kind uniface only"):
        EngineConfig(kind="transformers", **{switch: True})


def test_precision_follows_the_device_unless_said() -> None:
    assert resolve_dtype(EngineConfig(), "cpu") == "float32"
    assert resolve_dtype(EngineConfig(), "cuda") == "bfloat16"
    assert resolve_dtype(EngineConfig(dtype="bfloat16"), "cpu") == "bfloat16"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_random_model(tmp_path / "model")


def check(folder: Path) -> None:
    check_model(ModelConfig(name="m", path=str(folder)), StorageConfig())


def test_a_good_folder_gives_its_config(folder: Path) -> None:
    checked = check_model(ModelConfig(name="m", path=str(folder)), StorageConfig())
    assert checked.image_size == 32


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"model\.path is .* there is no") as caught:
        check(folder)
    assert Path(name).suffix in str(caught.value)


def test_weights_that_are_cut_off_or_of_another_model_are_said(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for part in (b"", whole[:5], whole[:100], whole[:-1]):
        weights.write_bytes(part)
        with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
            check(folder)
    tensors = load_file_bytes(whole)
    del tensors["showo.lm_head.bias"]
    save_file(tensors, weights)
    with pytest.raises(UserError, match=r"missing showo\.lm_head\.bias \(375,\)"):
        check(folder)


def test_a_tokenizer_that_is_none_is_said(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        check(folder)


def test_a_missing_folder_and_strange_configs_are_said(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="model_type 'llama'"):
        check(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        check(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "uniface", "magvit_config": {"image_size": "big"}}))
    with pytest.raises(UserError, match="does not fit"):
        check(folder)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"model\.path"):
        check(folder)
