"""Low-rank adapters (LoRA) of a model, as peft writes them: merged into its weights when it is loaded."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.engine.weights import CheckedModel, check_model

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def split(model: ModelConfig) -> tuple[ModelConfig, ModelConfig | None]:
    """The model itself, and the adapter that is merged into it."""
    if model.adapter is None:
        return model, None
    return ModelConfig(name=model.name, path=model.path), ModelConfig(name=model.name, path=model.adapter)


def is_adapter(folder: Folder) -> bool:
    """Whether an adapter lies there, rather than a whole model."""
    return any(entry.name == _CONFIG for entry in folder.list())


def check_adapter(adapter: ModelConfig, base: ModelConfig, storage: StorageConfig) -> CheckedModel:
    """Look at an adapter and the model that it belongs to.

    Raises:
        UserError: peft is not installed, a file is missing, an adapter of another kind, a model that is not whole.
    """
    if find_spec("peft") is None:
        raise UserError(
            f"{adapter.path!r} holds an adapter, which needs peft: pip install 'uniface-ray[peft]', or give "
            "a folder with a whole model"
        )
    folder = Folder(adapter.path, storage)
    names = {entry.name for entry in folder.list()}
    if missing := [name for name in (_CONFIG, _WEIGHTS) if name not in names]:
        raise UserError(
            f"{adapter.path!r} has no {' and no '.join(missing)}: give a folder of an adapter, written by "
            "save_pretrained"
        )
    data, weights = folder.read(_CONFIG), folder.read(_WEIGHTS)  # some megabytes at most
    try:
        kind = json.loads(data).get("peft_type")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{adapter.path!r} holds an {_CONFIG} that is not a JSON object: copy it again") from error
    if kind != "LORA":
        raise UserError(f"{adapter.path!r} holds an adapter of type {kind!r}, but only LORA can be merged into a model")
    model = check_model(base, storage)
    digest = hashlib.sha256(b"".join([model.fingerprint.encode(), data, weights]))
    return CheckedModel(model.image_size, digest.hexdigest())


def merge(model: Any, folder: Path) -> Any:
    """The model with the adapter in its weights.

    Args:
        model: in float32, on any device.
        folder: of the adapter.

    Raises:
        UserError: it does not fit the model.
    """
    import peft

    try:
        return peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"the adapter in {folder} does not fit the model: {error}") from error


__all__ = ["check_adapter", "is_adapter", "merge", "split"]
