"""Where a model's files are, checked before anybody waits for them."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.model import UniFaceConfig

_NEEDED = ("config.json", "tokenizer.json")


def check_model(model: ModelConfig, storage: StorageConfig) -> UniFaceConfig:
    """The config of the model at `model.path`, without reading its weights.

    Raises:
        UserError: no such folder, a file missing, or a model of another kind.
    """
    folder = Folder(model.path, storage)
    folder.check("model.path")
    names = {entry.name for entry in folder.list()}
    missing = [name for name in _NEEDED if name not in names]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("*.safetensors")
    if missing:
        raise UserError(
            f"model.path is {model.path!r}, but there is no {' and no '.join(missing)} in it: give a folder written by "
            "save_pretrained of UniFaceForConditionalGeneration and UniFaceProcessor, or leave model.path out for "
            "uniface-tiny"
        )
    try:
        values = json.loads(folder.read("config.json"))
    except ValueError as error:
        raise UserError(f"model.path is {model.path!r}, whose config.json is not JSON: {error}") from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != UniFaceConfig.model_type:
        raise UserError(
            f"model.path is {model.path!r}, whose config.json says model_type {kind!r}, but this engine runs "
            f"{UniFaceConfig.model_type!r} models"
        )
    try:
        return UniFaceConfig.from_dict(values)
    except Exception as error:
        raise UserError(f"model.path is {model.path!r}, whose config.json does not fit: {error}") from error


def model_folder(model: ModelConfig, storage: StorageConfig) -> Path:
    """A local folder with the model's files; what is in S3 is copied once a process, into a temporary folder."""
    folder = Folder(model.path, storage)
    return Path(folder.uri) if folder.is_local else Path(_copy(folder.uri, storage).name)


@lru_cache(maxsize=1)
def _copy(uri: str, storage: StorageConfig) -> tempfile.TemporaryDirectory[str]:
    copied = tempfile.TemporaryDirectory(prefix="uniface-model-")
    folder = Folder(uri, storage)
    for entry in folder.list():
        (Path(copied.name) / entry.name).write_bytes(folder.read(entry.name))
    return copied
