"""Writes the trained model as a transformers model folder, in bfloat16."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor


def export(model: UniFaceForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer to `folder`, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        model.to(torch.bfloat16).save_pretrained(temporary)
        UniFaceProcessor(tokenizer, model.config).save_pretrained(temporary)
        for file in sorted(Path(temporary).iterdir()):
            shutil.copyfile(file, folder / f".{file.name}.part")
            os.replace(folder / f".{file.name}.part", folder / file.name)
