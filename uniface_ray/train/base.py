"""The model that a training begins with."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedConfig

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.engine.weights import model_folder
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor


class Base:
    """A model folder, on this machine.

    Args:
        model: settings.
        storage: how to reach S3.
    """

    def __init__(self, model: ModelConfig, storage: StorageConfig) -> None:
        self.folder: Path = model_folder(model, storage)
        self.config: PreTrainedConfig = UniFaceConfig.from_pretrained(self.folder)
        self.processor = UniFaceProcessor.from_pretrained(self.folder)
        transformers.logging.disable_progress_bar()

    def model(self) -> UniFaceForConditionalGeneration:
        """A new one, in float32."""
        return UniFaceForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights in the folder, in which a trained model is written again."""
        return self.config.dtype or torch.float32
