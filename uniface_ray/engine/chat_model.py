"""An image-text model of transformers, checked before anybody waits for it."""

import hashlib
import json
from typing import Any

from transformers import AutoConfig, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MODELS

from uniface_ray.core.config import HUB, ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.engine.weights import CheckedModel, sample, tensor_shapes

# Side of the pictures where neither the settings nor the model's config say one: models of any size take these.
_IMAGE_SIZE = 448
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_MAY_HOLD_ONE = ("processor_config.json", "tokenizer_config.json")


def check_chat_model(model: ModelConfig, storage: StorageConfig, image_size: int | None) -> CheckedModel:
    """Look at the model at `model.path`: a local folder, s3://, or hf://owner/name on the hub.

    Args:
        model: which.
        storage: how to reach s3://.
        image_size: side of the pictures as the settings have it; None takes the model's own.

    Raises:
        UserError: no such model, a file missing or cut off, a model of another kind, no chat template.
    """
    told = f"model.path is {model.path!r}"
    if model.path.startswith(HUB):
        values, seen = _on_hub(model.path, told)
    else:
        folder = Folder(model.path, storage)
        folder.check("model.path")
        values, seen = _in_folder(folder, told)
    seen += repr(image_size).encode() if image_size is not None else b""
    if image_size is None:
        vision = values.get("vision_config")
        given = vision.get("image_size") if isinstance(vision, dict) else None
        image_size = given if isinstance(given, int) else _IMAGE_SIZE
    return CheckedModel(image_size, hashlib.sha256(seen).hexdigest())


def _on_hub(path: str, told: str) -> tuple[dict[str, Any], bytes]:
    name = path.removeprefix(HUB)
    try:
        values = AutoConfig.from_pretrained(name).to_dict()
        _check_kind(values, told)
        if not AutoProcessor.from_pretrained(name).chat_template:
            raise _no_template(told)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{told}, which cannot be had from the Hugging Face hub: {_first_line(error)}") from error
    return values, repr((name, values.get("_commit_hash"), sorted(values))).encode()


def _in_folder(folder: Folder, told: str) -> tuple[dict[str, Any], bytes]:
    entries = {entry.name: entry for entry in folder.list()}
    weights = [entry for name, entry in entries.items() if name.endswith(".safetensors")]
    missing = [] if "config.json" in entries else ["config.json"]
    missing += [] if weights else ["*.safetensors"]
    missing += (
        [] if {"processor_config.json", "preprocessor_config.json"} & entries.keys() else ["processor_config.json"]
    )
    if missing:
        raise UserError(
            f"{told}, but there is no {' and no '.join(missing)} in it: give a folder written by save_pretrained of an "
            f"image-text model and its processor, or {HUB}owner/name for one on the Hugging Face hub"
        )
    try:
        values = json.loads(folder.read("config.json"))
    except ValueError as error:
        raise UserError(f"{told}, whose config.json is not JSON: {error}") from error
    _check_kind(values, told)
    templates = [name for name in _TEMPLATES if name in entries]
    held = [name for name in _MAY_HOLD_ONE if name in entries and b'"chat_template"' in folder.read(name)]
    if not templates and not held:
        raise _no_template(told)
    parts = [folder.read("config.json"), *(folder.read(name) for name in (*templates, *held))]
    for entry in weights:
        tensor_shapes(folder, entry)
        parts.append(sample(folder, entry))
    if folder.is_local:
        try:
            AutoProcessor.from_pretrained(folder.uri)
        except Exception as error:  # of whatever code the model's processor is
            raise UserError(f"{told}, whose processor cannot be loaded: {_first_line(error)}") from error
    return values, b"".join(parts)


def _check_kind(values: Any, told: str) -> None:
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind == "uniface":
        raise UserError(f"{told}, a model of our own: use engine.kind=uniface")
    if kind not in MODELS:
        raise UserError(
            f"{told}, whose config.json says model_type {kind!r}, but engine.kind=transformers runs image-text models "
            "(llava, qwen2_5_vl, smolvlm, gemma3, ...): see AutoModelForImageTextToText of transformers for all"
        )


def _no_template(told: str) -> UserError:
    return UserError(
        f"{told}, which has no chat template, so nobody knows how it wants to be asked: put a chat_template.jinja "
        "beside its config.json, or take the instruction-tuned version of the model"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]


__all__ = ["check_chat_model"]
