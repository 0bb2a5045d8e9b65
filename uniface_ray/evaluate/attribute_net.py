"""A small convolutional classifier of a face's attributes, which trains in minutes on a CPU and lives in a folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MODEL_TYPE = "uniface_attributes"
IMAGE_SIZE = 128
_WIDTHS = (24, 48, 96, 160)
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class AttributeHead(nn.Module):
    """Codes or features (B, channels, h, w) to logits (B, values) of each attribute, and the age in tens of years."""

    def __init__(self, channels: int, grid: int, attributes: Mapping[str, Sequence[str]], width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 1)
        self.place = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(3))
        self.out = nn.ModuleDict({name: nn.Linear(2 * width, len(values)) for name, values in attributes.items()})
        self.age = nn.Linear(2 * width, 1)

    def forward(self, features: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        x = self.embed(features) + self.place
        for norm, mix in zip(self.norms, self.mix, strict=True):
            x = x + mix(F.silu(norm(x)))
        pooled = F.dropout(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=-1), 0.2, self.training)
        return {name: layer(pooled) for name, layer in self.out.items()}, self.age(pooled)[:, 0]


class AttributeNet(nn.Module):
    """Pixels (B, 3, 128, 128) in -1..1 to what `AttributeHead` tells; 0.6 M parameters, without the head."""

    def __init__(self, attributes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, stride=2, padding=1)]
        width = 16
        for wider in _WIDTHS:
            layers += [nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, wider, 3, stride=2, padding=1)]
            layers += [nn.BatchNorm2d(wider), nn.SiLU(), nn.Conv2d(wider, wider, 3, padding=1)]
            width = wider
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.SiLU())
        self.head = AttributeHead(width, IMAGE_SIZE // 2 ** (len(_WIDTHS) + 1), self.attributes)

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        reading: tuple[dict[str, Tensor], Tensor] = self.head(self.features(pixels))
        return reading

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / _WEIGHTS)
        config = {"model_type": MODEL_TYPE, "attributes": self.attributes}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "AttributeNet":
        """What `save` wrote, in eval mode.

        Raises:
            KeyError, ValueError, OSError, RuntimeError: files that are missing, or do not fit together.
        """
        net = cls(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["attributes"])
        net.load_state_dict(load_file(folder / _WEIGHTS))
        return net.eval()


@torch.no_grad()
def attribute_chances(net: AttributeNet, pixels: Tensor) -> dict[str, Tensor]:
    """Probabilities (B, values) by attribute for pixels (B, 3, 128, 128) in -1..1, mirrored views averaged."""
    views = [pixels.contiguous(memory_format=torch.channels_last), pixels.flip(-1)]
    seen = [{name: logits.float().softmax(-1) for name, logits in net(view)[0].items()} for view in views]
    return {name: (seen[0][name] + seen[1][name]) / 2 for name in net.attributes}


__all__ = ["IMAGE_SIZE", "MODEL_TYPE", "AttributeHead", "AttributeNet", "attribute_chances"]
