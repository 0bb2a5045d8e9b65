"""A trained model as a folder that every command takes as `model.path`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.base import Base
from uniface_ray.train.lora import adapt, merged

FOLDER, ADAPTER = "model", "adapter"


@torch.no_grad()
def export(base: Base, config: TrainConfig, weights: dict[str, Tensor], sink: Folder) -> None:
    """Write the model to `model/` in the sink; adapters are merged, and also written to `adapter/` as peft has them.

    Args:
        base: what the training began with.
        config: of the run.
        weights: what has learnt, by name.
        sink: of the run.

    Raises:
        OSError: the sink cannot be written.
    """
    model = base.model()
    adapted = adapt(model, config.lora, config.run.seed)
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)
    with tempfile.TemporaryDirectory(prefix="uniface-model-") as temporary:
        if config.lora.rank:
            adapted.save_pretrained(temporary)
            _copy(Path(temporary), ("adapter_model.safetensors", "adapter_config.json"), sink, ADAPTER)
    with tempfile.TemporaryDirectory(prefix="uniface-model-") as temporary:
        merged(adapted).to(base.dtype).save_pretrained(temporary, max_shard_size="1GB")
        base.processor.save_pretrained(temporary)
        names = sorted(file.name for file in Path(temporary).iterdir())
        # The config last: a folder without one is no model yet.
        _copy(Path(temporary), sorted(names, key=lambda name: name == "config.json"), sink, FOLDER)


def _copy(source: Path, names: Sequence[str], sink: Folder, folder: str) -> None:
    for name in names:
        sink.write(f"{folder}/{name}", (source / name).read_bytes())
