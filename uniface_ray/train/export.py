"""A trained model as a folder that every command takes as `model.path`."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.base import Base
from uniface_ray.train.lora import adapt, merged

FOLDER = "model"


@torch.no_grad()
def export(base: Base, config: TrainConfig, weights: dict[str, Tensor], sink: Folder) -> str:
    """Write the model to `model/` in the sink, adapters merged.

    Args:
        base: what the training began with.
        config: of the run.
        weights: what has learnt, by name.
        sink: of the run.

    Returns:
        Address of the folder.

    Raises:
        OSError: the sink cannot be written.
    """
    model = base.model()
    adapted = adapt(model, config.lora, config.run.seed)
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)
    with tempfile.TemporaryDirectory(prefix="uniface-model-") as temporary:
        merged(adapted).to(base.dtype).save_pretrained(temporary, max_shard_size="1GB")
        base.processor.save_pretrained(temporary)
        # The config last: a folder without one is no model yet.
        files = sorted(Path(temporary).iterdir(), key=lambda file: file.name == "config.json")
        for file in files:
            sink.write(f"{FOLDER}/{file.name}", file.read_bytes())
    return f"{sink.uri}/{FOLDER}"
