"""MAGVIT-v2 image tokenizer with look-up-free quantisation.

The network and its key names are those of Show-o's `models/modeling_magvitv2.py` and `common_modules.py`, so
`showlab/magvitv2` loads as it is. Letters in shapes: B images, H and W pixels, h = H / downsampling, w = W /
downsampling, K latent bits.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from uniface_ray.model.magvit_config import MagvitV2Config


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """GroupNorm, swish and 3x3 convolution, twice; a 1x1 shortcut where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut: nn.Module = nn.Conv2d(in_channels, out_channels, 1)
        else:
            self.nin_shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (conv(normed).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """3x3 convolution of stride 2 on an image padded by one zero at the right and at the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _mid(channels: int, groups: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "block_1": ResnetBlock(channels, channels, groups),
            "attn_1": AttnBlock(channels, groups),
            "block_2": ResnetBlock(channels, channels, groups),
        }
    )


def _run_mid(mid: nn.ModuleDict, x: Tensor) -> Tensor:
    return mid["block_2"](mid["attn_1"](mid["block_1"](x)))


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) -> latents (B, K, h, w)."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        groups, channels = config.norm_groups, config.base_channels
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList()
        last = len(config.encoder_multipliers) - 1
        for level, multiplier in enumerate(config.encoder_multipliers):
            blocks = nn.ModuleList()
            for _ in range(config.encoder_blocks[level]):
                blocks.append(ResnetBlock(channels, config.base_channels * multiplier, groups))
                channels = config.base_channels * multiplier
            stage = nn.ModuleDict({"block": blocks})
            if level != last:
                stage["downsample"] = Downsample(channels)
            self.down.append(stage)
        self.mid = _mid(channels, groups)
        self.norm_out = _norm(channels, groups)
        self.conv_out = nn.Conv2d(channels, config.latent_bits, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.latent_bits, config.latent_bits, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_in(pixels)
        for stage in self.down:
            for block in stage["block"]:
                x = block(x)
            if "downsample" in stage:
                x = stage["downsample"](x)
        x = _run_mid(self.mid, x)
        return self.quant_conv(self.conv_out(F.silu(self.norm_out(x))))


class Decoder(nn.Module):
    """Quantised latents (B, K, h, w) -> pixels (B, 3, H, W), about -1..1."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        groups = config.norm_groups
        channels = config.base_channels * config.decoder_multipliers[-1]
        self.post_quant_conv = nn.Conv2d(config.latent_bits, config.latent_bits, 1)
        self.conv_in = nn.Conv2d(config.latent_bits, channels, 3, padding=1)
        self.mid = _mid(channels, groups)
        stages = []
        for level in reversed(range(len(config.decoder_multipliers))):
            blocks = nn.ModuleList()
            for _ in range(config.decoder_blocks[level]):
                blocks.append(ResnetBlock(channels, config.base_channels * config.decoder_multipliers[level], groups))
                channels = config.base_channels * config.decoder_multipliers[level]
            stage = nn.ModuleDict({"block": blocks})
            if level != 0:
                stage["upsample"] = Upsample(channels)
            stages.append(stage)
        self.up = nn.ModuleList(reversed(stages))
        self.norm_out = _norm(channels, groups)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:
        x = _run_mid(self.mid, self.conv_in(self.post_quant_conv(quantized)))
        for stage in reversed(self.up):
            for block in stage["block"]:
                x = block(x)
            if "upsample" in stage:
                x = stage["upsample"](x)
        return self.conv_out(F.silu(self.norm_out(x)))


class QuantizerLosses(NamedTuple):
    """Losses that train the tokenizer; scalars, already weighted by 0.1 as in Show-o."""

    commitment: Tensor
    entropy: Tensor


class LookupFreeQuantizer(nn.Module):
    """Each latent channel becomes one bit by its sign; a code is the bits read with the first channel highest."""

    embedding: Tensor
    power_vals: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        powers = 2 ** torch.arange(bits - 1, -1, -1)
        codes = torch.arange(2**bits)
        self.register_buffer("power_vals", powers)
        self.register_buffer("embedding", ((codes[:, None] & powers) > 0).float() * 2 - 1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, K, h, w) -> -1 or +1 of the same shape, with a straight-through gradient."""
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        return latents + (signs - latents).detach()

    def codes(self, latents: Tensor) -> Tensor:
        """(B, K, h, w) -> code of each position, (B, h, w) int64."""
        # Not a product of integer matrices, which CUDA does not have.
        return ((latents > 0) * self.power_vals[:, None, None]).sum(1)

    def losses(self, latents: Tensor) -> QuantizerLosses:
        """Commitment and factorised entropy of latents (B, K, h, w) (Show-o `LFQuantizer`, per bit, not per code)."""
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        commitment = (signs.detach() - latents).square().mean() * (1 + 0.25)
        logits = torch.stack([-(latents + 1).square(), -(latents - 1).square()], dim=-1)
        bit = logits.float().softmax(dim=-1)
        mean_bit = bit.mean(dim=(0, 2, 3))
        per_bit = -(bit * bit.clamp_min(1e-8).log()).sum(-1).mean()
        of_mean = -(mean_bit * mean_bit.clamp_min(1e-8).log()).sum(-1).mean()
        return QuantizerLosses(0.1 * commitment, 0.1 * (per_bit - of_mean))


class MagvitV2(PreTrainedModel):
    """Images to discrete codes and back (Yu et al. 2024, arXiv 2310.05737; Show-o's inference network)."""

    config_class = MagvitV2Config
    config: MagvitV2Config
    main_input_name = "pixel_values"

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = LookupFreeQuantizer(config.latent_bits)
        self.post_init()

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in -1..1 -> codes (B, h * w) int64, row by row."""
        return self.quantize.codes(self.encoder(pixel_values)).flatten(1)

    def decode(self, codes: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
        """Codes (B, h * w) -> pixels (B, 3, H, W) in about -1..1.

        Args:
            codes: int64, 0 .. codebook_size - 1.
            shape: (h, w) of the token grid; by default the configured square one. Any size decodes.

        Raises:
            ValueError: the number of codes does not fill the grid.
        """
        height, width = shape or (self.config.grid_size, self.config.grid_size)
        if codes.shape[1] != height * width:
            raise ValueError(
                f"an image has {codes.shape[1]} codes, but a grid of {height} x {width} takes {height * width}: "
                "give `shape=(h, w)` of these codes"
            )
        bits = self.quantize.embedding[codes]
        latents = bits.transpose(1, 2).reshape(codes.shape[0], -1, height, width)
        return self.decoder(latents.to(self.decoder.conv_in.weight.dtype))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels -> codes -> pixels, with the straight-through gradient of the quantiser."""
        return self.decoder(self.quantize(self.encoder(pixel_values)))


__all__ = ["LookupFreeQuantizer", "MagvitV2", "QuantizerLosses"]
