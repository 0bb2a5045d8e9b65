"""Puts the trained parts together as one transformers model folder, in bfloat16."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train.tiny.backbone import Reader


def export(reader: Reader, magvit: MagvitV2, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer to `folder`, each file whole or not at all."""
    config = UniFaceConfig.from_dict(reader.config.to_dict())
    # Dropout belongs to the training.
    config.backbone_config.resid_pdrop = config.backbone_config.embd_pdrop = 0.0
    model = UniFaceForConditionalGeneration(config)
    model.showo.load_state_dict(reader.folded())
    model.magvit.load_state_dict(magvit.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        model.to(torch.bfloat16).save_pretrained(temporary)
        UniFaceProcessor(tokenizer, config).save_pretrained(temporary)
        for file in sorted(Path(temporary).iterdir()):
            shutil.copyfile(file, folder / f".{file.name}.part")
            os.replace(folder / f".{file.name}.part", folder / file.name)
