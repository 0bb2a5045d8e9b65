"""The encoders behind the semantic, identity and noise experts, each with its resampler.

Letters in shapes: B images, H and W pixels, M features of an image, N image tokens, R the resampler's width.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from uniface_ray.core.task_config import ENCODERS
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.identity import IRResNet
from uniface_ray.model.identity_onnx import OnnxIdentity
from uniface_ray.model.resampler import MaskRatioFeatures, Resampler


class Encoder(nn.Module):
    """An image encoder, which stays in eval mode while it is frozen: its running statistics are weights too."""

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        return self


class SemanticEncoder(Encoder):
    """A CLIP or SigLIP vision model of transformers; its features are the patches of one of its layers."""

    def __init__(self, config: PreTrainedConfig, layer: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """Make it with random weights.

        Args:
            config: of the vision model.
            layer: which of its `hidden_states` are the features.
            mean: what is subtracted from 0..1 pixels.
            std: what they are then divided by.
        """
        super().__init__()
        self.layer, self.mean, self.std = layer, mean, std
        self.model = AutoModel.from_config(config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, M, width)."""
        pixels = (resized(pixel_values, self.model.config.image_size) + 1) / 2
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        pixels = ((pixels - mean) / std).to(self.model.dtype)
        states = self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[self.layer]
        return states[:, -semantic_features(self.model.config)[0] :]  # without a class token, which stands first


class IdentityEncoder(Encoder):
    """A face recogniser; see `IdentityConfig`."""

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__()
        self.config = config.identity_config
        self.model = IRResNet(self.config) if self.config.onnx_path is None else OnnxIdentity(self.config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, M, width). The middle of the image is taken for the face; nothing aligns it."""
        height, width = pixel_values.shape[-2:]
        inner = round(min(height, width) * self.config.crop)
        top, left = (height - inner) // 2, (width - inner) // 2
        faces = resized(pixel_values[..., top : top + inner, left : left + inner], self.config.image_size)
        if self.config.bgr:
            faces = faces.flip(1)
        return self.model(faces.to(next((p.dtype for p in self.parameters()), faces.dtype)))


class Encoders(nn.Module):
    """All that the sequence-level experts see, resampled to the image's N tokens."""

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__()
        experts = config.sequence_experts
        width = experts.resampler_width
        sizes = features_of(config)
        if "semantic" in experts.feature_experts:
            self.semantic = SemanticEncoder(
                config.semantic_config, experts.semantic_layer, experts.semantic_mean, experts.semantic_std
            )
        if "identity" in experts.feature_experts:
            self.identity = IdentityEncoder(config)
        if "noise" in experts.feature_experts:
            self.noise = MaskRatioFeatures(width)
            sizes["noise"] = (1, width)
        self.resamplers = nn.ModuleDict(
            {
                name: Resampler(size, config.num_image_tokens, width, experts.resampler_heads)
                for name, size in sizes.items()
            }
        )

    def forward(self, pixel_values: Tensor) -> ImageFeatures:
        """(B, 3, H, W) in -1..1 -> features of the semantic and the identity expert."""
        return self.resampled(self.seen(pixel_values))

    def seen(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """What each encoder sees, (B, M, width) by its name: frozen encoders see the same of an image for ever."""
        encoders = {name: getattr(self, name, None) for name in ENCODERS}
        return {name: encoder(pixel_values) for name, encoder in encoders.items() if encoder is not None}

    def resampled(self, seen: dict[str, Tensor]) -> ImageFeatures:
        """What `seen` gave -> features of the experts."""
        return ImageFeatures(**{name: self.resamplers[name](features) for name, features in seen.items()})

    def of_mask_ratio(self, mask_ratio: Tensor) -> Tensor | None:
        """(B,) -> the noise expert's features (B, N, R), or None without one."""
        return self.resamplers["noise"](self.noise(mask_ratio)) if "noise" in self.resamplers else None


def semantic_features(config: PreTrainedConfig) -> tuple[int, int]:
    """Number and width of the patches of a vision model of transformers."""
    return (config.image_size // config.patch_size) ** 2, config.hidden_size


def features_of(config: UniFaceConfig) -> dict[str, tuple[int, int]]:
    """Number and width of what each encoder of a model sees of an image, by its name."""
    used = () if config.sequence_experts is None else config.sequence_experts.feature_experts
    sizes = {}
    if "semantic" in used:
        sizes["semantic"] = semantic_features(config.semantic_config)
    if "identity" in used:
        sizes["identity"] = config.identity_config.features
    return sizes


def resized(pixel_values: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) in -1..1 -> float32 (B, 3, size, size), bicubic and antialiased."""
    pixels = pixel_values.float()
    if pixels.shape[-2:] == (size, size):
        return pixels
    return F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)


__all__ = ["Encoders", "IdentityEncoder", "SemanticEncoder", "features_of", "semantic_features"]
