"""Models that look at faces: judges of their attributes, and what gives the features in which sets are compared.

A judge is a folder of `attribute_net`, or an image classifier of transformers whose classes are the values of one
attribute; a vision model is any of transformers that has one pooled vector, or patches, for an image.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedConfig
from transformers.image_processing_base import ImageProcessingMixin

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.engine.weights import model_folder
from uniface_ray.evaluate import attribute_net
from uniface_ray.evaluate.attribute_net import AttributeNet, attribute_chances
from uniface_ray.evaluate.claims import VALUES
from uniface_ray.evaluate.labels import read_label
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.encoders import resized

Judge = Callable[[Tensor], dict[str, dict[str, Tensor]]]
"""Pixels (B, 3, H, W) in -1..1 -> chances (B,) of each value of each attribute that it knows."""
Vision = Callable[[Tensor], NDArray[np.float32]]
"""Pixels (B, 3, H, W) in -1..1 -> features (B, D)."""


def check_judge(path: str, storage: StorageConfig) -> tuple[str, ...]:
    """The attributes that a judge knows.

    Raises:
        UserError: no such model, or classes that are the values of no attribute.
    """
    place, config = _find(path, "evaluate.judges", storage)
    if config.get("model_type") == attribute_net.MODEL_TYPE:
        return tuple(name for name in config["attributes"] if name in VALUES)
    return (_attribute_of(_hugging_face(place, "evaluate.judges"), path)[0],)


def load_judge(path: str, storage: StorageConfig, device: str) -> Judge:
    """A judge of attributes, on a device.

    Raises:
        UserError: see `check_judge`.
    """
    place, config = _find(path, "evaluate.judges", storage)
    if config.get("model_type") == attribute_net.MODEL_TYPE:
        net = AttributeNet.load(Path(place)).to(device)
        known = {name: values for name, values in net.attributes.items() if name in VALUES}

        def judge(pixels: Tensor) -> dict[str, dict[str, Tensor]]:
            chances = attribute_chances(net, resized(pixels, attribute_net.IMAGE_SIZE))
            return {name: dict(zip(values, chances[name].T, strict=True)) for name, values in known.items()}

        return judge
    attribute, values = _attribute_of(_hugging_face(place, "evaluate.judges"), path)
    prepare = _preparation(place, "evaluate.judges")
    model = AutoModelForImageClassification.from_pretrained(place, dtype=torch.float32).eval().to(device)

    @torch.inference_mode()
    def classify(pixels: Tensor) -> dict[str, dict[str, Tensor]]:
        chances = model(pixel_values=prepare(pixels)).logits.softmax(-1)
        return {attribute: {value: chances[:, index] for index, value in enumerate(values)}}

    return classify


def check_vision(path: str, storage: StorageConfig) -> str:
    """What a vision model is called in numbers: its path and its kind.

    Raises:
        UserError: no such model.
    """
    place, _ = _find(path, "evaluate.features", storage)
    config = _hugging_face(place, "evaluate.features")
    _preparation(place, "evaluate.features")
    return f"{path.rstrip('/').rpartition('/')[2]} ({config.model_type})"


def check_encoder(name: str, model: ModelConfig, storage: StorageConfig) -> str:
    """What features of the model's own encoder are called in numbers.

    Raises:
        UserError: the model has no such encoder.
    """
    config = UniFaceConfig.from_pretrained(model_folder(model, storage))
    experts = config.sequence_experts
    if experts is None or name not in experts.feature_experts:
        raise UserError(
            f"evaluate.features is {name}, but model.path {model.path!r} has no such encoder: give a vision model of "
            "transformers, as folder, s3:// URI or hub name"
        )
    return f"{model.name}'s {name} encoder"


def load_vision(path: str, storage: StorageConfig, device: str) -> Vision:
    """A vision model, on a device.

    Raises:
        UserError: no such model.
    """
    place, _ = _find(path, "evaluate.features", storage)
    prepare = _preparation(place, "evaluate.features")
    model = AutoModel.from_pretrained(place, dtype=torch.float32).eval().to(device)

    @torch.inference_mode()
    def see(pixels: Tensor) -> NDArray[np.float32]:
        if hasattr(model, "get_image_features"):  # CLIP, SigLIP: the vision half alone
            seen = model.get_image_features(pixel_values=prepare(pixels))
        else:
            seen = model(pixel_values=prepare(pixels))
        return _pooled(seen).float().cpu().numpy()

    return see


def _pooled(seen: Any) -> Tensor:
    """(B, D): as the model pools, else the mean over patches (B, N, D) or places (B, D, h, w)."""
    if isinstance(seen, Tensor):
        return seen
    pooled: Tensor | None = getattr(seen, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    last: Tensor = seen.last_hidden_state
    return last.mean(dim=(2, 3)) if last.ndim == 4 else last.mean(dim=1)


def _find(path: str, setting: str, storage: StorageConfig) -> tuple[str, dict[str, Any]]:
    """The local folder of a model, or its name on the hub, and its config.json."""
    local = Path(path).expanduser()
    place = path
    if path.startswith("s3://") or local.is_dir():
        place = str(model_folder(ModelConfig(name="vision", path=str(path)), storage))
    try:
        config, _ = PreTrainedConfig.get_config_dict(place)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{setting} is {path!r}, but there is no model: give a folder or s3:// URI with config.json and "
            f"safetensors, or the name of a model on the hub ({str(error).splitlines()[0]:.200})"
        ) from error
    if not config:
        raise UserError(f"{setting} is {path!r}, where there is no config.json: give a model's folder")
    return place, config


def _hugging_face(place: str, setting: str) -> Any:
    try:
        return AutoConfig.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{setting} is {place!r}, whose config.json transformers does not take: {error}") from error


def _attribute_of(config: Any, path: str) -> tuple[str, list[str]]:
    """The attribute of which all classes of a classifier are values, and these values in order of the classes."""
    labels = [config.id2label[index] for index in range(config.num_labels)]
    for attribute in VALUES:
        try:
            values = [read_label(attribute, label) for label in labels]
        except ValueError:
            continue
        if None not in values and len(set(values)) == len(values) > 1:
            return attribute, [str(value) for value in values]
    known = "; ".join(f"{name}: {', '.join(values)}" for name, values in VALUES.items())
    raise UserError(
        f"evaluate.judges has {path!r}, whose classes are {', '.join(map(str, labels))[:200]}, but they must be the "
        f"values of one attribute ({known}): name them so in id2label of its config.json"
    )


def _preparation(place: str, setting: str) -> Callable[[Tensor], Tensor]:
    """From -1..1 to what the model was trained on, as its preprocessor_config.json says."""
    try:
        told, _ = ImageProcessingMixin.get_image_processor_dict(place)
        size: Mapping[str, int] | int = told.get("crop_size") or told["size"]
        side = size if isinstance(size, int) else size.get("height") or size["shortest_edge"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{setting} is {place!r}, without a preprocessor_config.json that says `size`: copy the model's own, with "
            "size, image_mean and image_std"
        ) from error
    mean, std = (torch.tensor(told.get(name, [0.5] * 3)).view(3, 1, 1) for name in ("image_mean", "image_std"))

    def prepare(pixels: Tensor) -> Tensor:
        return ((resized(pixels, side) + 1) / 2 - mean.to(pixels.device)) / std.to(pixels.device)

    return prepare


__all__ = ["Judge", "Vision", "check_encoder", "check_judge", "check_vision", "load_judge", "load_vision"]
