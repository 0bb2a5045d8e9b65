"""Where a model's files are, checked before anybody waits for them."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import FileEntry, Folder

_NEEDED = ("config.json", "tokenizer.json")
_SAMPLE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model that is there and whole, as far as can be told without reading all of it.

    Attributes:
        image_size: side in pixels of what it takes.
        fingerprint: SHA-256 of its config, its tokenizer, and the headers and some bytes of its weights.
    """

    image_size: int
    fingerprint: str


def check_model(model: ModelConfig, storage: StorageConfig) -> CheckedModel:
    """Look at the model at `model.path`; of the weights, the headers and a few samples are read.

    Raises:
        UserError: no such folder, a file missing or cut off, a model of another kind, weights that do not fit it.
    """
    # Only here: they take seconds, and whoever copies files or looks at an adapter's can do without.
    import torch
    from tokenizers import Tokenizer

    from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
    from uniface_ray.model.fitting import check_weights

    if model.adapter is not None:
        raise UserError(f"model.adapter is {model.adapter!r}, but this command takes a whole model: leave it out")
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
    if config.projected_config is not None:
        raise UserError(
            f"model.path is {model.path!r}, a variant that reads images through a projected CLIP, which runs from "
            "Python only (model.decoding.greedy_text): give the variant that reads image tokens"
        )
    try:
        Tokenizer.from_buffer(folder.read("tokenizer.json"))
    except Exception as error:  # the library has no other
        what = f"model.path is {model.path!r}, whose tokenizer.json cannot be read ({error}): copy it again"
        raise UserError(what) from error
    shapes: dict[str, tuple[int, ...]] = {}
    digest = hashlib.sha256(b"".join(folder.read(name) for name in _NEEDED))
    for entry in folder.list():
        if entry.name.endswith(".safetensors"):
            shapes |= tensor_shapes(folder, entry)
            digest.update(sample(folder, entry))
    with torch.device("meta"):
        check_weights(UniFaceForConditionalGeneration(config), shapes, f"model.path {model.path!r}")
    return CheckedModel(config.magvit_config.image_size, digest.hexdigest())


def sample(folder: Folder, entry: FileEntry) -> bytes:
    """Some bytes from the start, the middle and the end of a file, and its size: other weights have others."""
    parts = [str(entry.size).encode()]
    with folder.open_input(entry.name) as file:
        for place in (0, entry.size // 2, max(0, entry.size - _SAMPLE_BYTES)):
            file.seek(place)
            parts.append(file.read(_SAMPLE_BYTES))
    return b"".join(parts)


def tensor_shapes(folder: Folder, entry: FileEntry) -> dict[str, tuple[int, ...]]:
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
    """A local folder with the model's files; what is in S3 is copied once a machine, under its temporary folder."""
    folder = Folder(model.path, storage)
    return Path(folder.uri) if folder.is_local else _copied(folder)


def _copied(folder: Folder) -> Path:
    entries = folder.list()
    state = repr((folder.uri, [(entry.name, entry.size, entry.modified) for entry in entries]))
    home = Path(tempfile.gettempdir()) / f"uniface-models-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    copied = home / hashlib.sha256(state.encode()).hexdigest()[:32]
    if not copied.exists():
        # Replicas of one machine may copy at the same time: the first one done wins, nobody sees half a copy.
        coming = Path(tempfile.mkdtemp(dir=home))
        for entry in entries:
            with folder.open_input(entry.name) as source, (coming / entry.name).open("wb") as target:
                shutil.copyfileobj(source, target, 2**24)
        try:
            coming.rename(copied)
        except OSError:
            shutil.rmtree(coming)
    return copied
