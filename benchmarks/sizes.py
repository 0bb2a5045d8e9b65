"""Models to measure."""

from pathlib import Path

import torch

import uniface_ray
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration

TINY = Path(uniface_ray.__file__).parent / "model" / "weights" / "uniface-tiny"


def build(size: str) -> UniFaceForConditionalGeneration:
    """A model in eval mode, float32, on the CPU.

    Args:
        size: `tiny`, the model that ships with the package; or `bench-100m`, random weights: a transformer of hidden
            size 512 and 12 layers, Show-o's 58,498 ids and its tokenizer of 256-px images.
    """
    if size == "tiny":
        return UniFaceForConditionalGeneration.from_pretrained(TINY, dtype=torch.float32).eval()
    torch.manual_seed(0)
    backbone = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
    return UniFaceForConditionalGeneration(UniFaceConfig(backbone_config=backbone)).eval()
