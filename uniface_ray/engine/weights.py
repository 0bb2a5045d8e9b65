"""Where a model's files are, checked before anybody waits for them."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import FileEntry, Folder
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
from uniface_ray.model.showo import check_weights

_NEEDED = ("config.json", "tokenizer.json")


def check_model(model: ModelConfig, storage: StorageConfig) -> UniFaceConfig:
    """The config of the model at `model.path`; of the weights, only the headers are read.

    Raises:
        UserError: no such folder, a file missing or cut off, a model of another kind, weights that do not fit it.
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
        config = UniFaceConfig.from_dict(values)
    except Exception as error:
        raise UserError(f"model.path is {model.path!r}, whose config.json does not fit: {error}") from error
    shapes = {}
    for entry in folder.list():
        if entry.name.endswith(".safetensors"):
            shapes |= _shapes(folder, entry)
    with torch.device("meta"):
        check_weights(UniFaceForConditionalGeneration(config), shapes, f"model.path {model.path!r}")
    return config


def _shapes(folder: Folder, entry: FileEntry) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a safetensors file, by name.

    The format: 8 bytes with the header's length, little-endian; the header, JSON; the tensors' bytes.
    """
    try:
        with folder.open_input(entry.name) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, entry.size)))
        header.pop("__metadata__", None)
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
        if end != entry.size:
            raise ValueError(f"it has {entry.size:,} bytes, and its header says {end:,}")
        return {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.path is {folder.uri!r}, whose {entry.name} cannot be read as safetensors ({error}): copy it again"
        ) from error


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
