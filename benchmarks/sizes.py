"""Models to measure."""

from pathlib import Path

import torch

import uniface_ray
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
from uniface_ray.model.presets import preset

# The weights that ship with the package.
TINY = Path(uniface_ray.__file__).parent / "model" / "weights" / "uniface-tiny"


def build(size: str, narrow_tokenizer: bool = False) -> UniFaceForConditionalGeneration:
    """A dense model with random weights, in eval mode, float32, on the CPU: what it computes can be counted.

    Args:
        size: `tiny`, the network that ships with the package, without its experts; or `bench-100m`, a transformer of
            hidden size 512 and 12 layers, Show-o's 58,498 ids and its tokenizer of 256-px images.
        narrow_tokenizer: give `bench-100m` an image tokenizer of an eighth of the channels, a 64th of the operations.
            On a CPU, Show-o's takes seconds for a picture, and little would be seen of anything else.
    """
    torch.manual_seed(0)
    if size == "tiny":
        return UniFaceForConditionalGeneration(preset("tiny", experts=False)).eval()
    backbone = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
    magvit = {"base_channels": 16, "norm_groups": 8} if narrow_tokenizer else {}
    return UniFaceForConditionalGeneration(UniFaceConfig(backbone_config=backbone, magvit_config=magvit)).eval()
