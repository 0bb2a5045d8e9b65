"""AdaFace's IR-ResNet, with its own key names, so that its released state dicts load as they are.

The network is `net.py` of AdaFace (mk-minchul/AdaFace): IR-50 has 43,585,600 parameters with its embedding,
IR-101 65,150,912. Letters in
shapes: B images, S pixels of a side, C channels of the last stage, G cells of a side.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.core.errors import UserError
from uniface_ray.model.expert_config import IdentityConfig


class Block(nn.Module):
    """BN, 3x3 convolution, BN, PReLU, 3x3 convolution, BN, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        if in_channels == channels:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRResNet(nn.Module):
    """Faces -> the last stage's cells, or an embedding of unit length."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        stem, last = config.widths[0], config.widths[-1]
        self.input_layer = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem))
        blocks, channels = [], stem
        for width, count in zip(config.widths[1:], config.blocks, strict=True):
            blocks += [Block(channels, width, 2), *(Block(width, width, 1) for _ in range(count - 1))]
            channels = width
        self.body = nn.Sequential(*blocks)
        if config.output == "embedding":
            self.output_layer = nn.Sequential(
                nn.BatchNorm2d(last),
                nn.Dropout(0.4),
                nn.Flatten(),
                nn.Linear(last * config.grid**2, config.embedding_size),
                nn.BatchNorm1d(config.embedding_size, affine=False),
            )

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, S, S), prepared -> (B, G * G, C), or (B, 1, embedding) with `output="embedding"`."""
        cells = self.body(self.input_layer(faces))
        if self.config.output == "map":
            return cells.flatten(2).transpose(1, 2)
        return F.normalize(self.output_layer(cells), dim=-1)[:, None]


def load_adaface(network: IRResNet, state: Mapping[str, Tensor]) -> None:
    """Give a network the weights of an AdaFace checkpoint.

    Args:
        network: of the checkpoint's size.
        state: its `state_dict`: the network's keys begin with `model.`; those of the training head are left out, and
            with `output="map"` those of the embedding.

    Raises:
        UserError: tensors that are missing, surplus or of another shape, by name.
    """
    left_out = ("head.",) if network.config.output == "embedding" else ("head.", "model.output_layer.")
    own = {key.removeprefix("model."): tensor for key, tensor in state.items() if not key.startswith(left_out)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise UserError(
            f"these weights do not fit identity_config (widths and blocks say its size): {error}"
        ) from error


__all__ = ["IRResNet", "load_adaface"]
