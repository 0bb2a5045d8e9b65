"""From an encoder's features to a sequence as long as the image's tokens.

Letters in shapes: B images, M features, N image tokens, R width.
"""

import math

import torch
from torch import Tensor, nn


class Resampler(nn.Module):
    """N learned queries attend to the features: one Perceiver block. Its form is not stated by the paper."""

    def __init__(self, features: tuple[int, int], count: int, width: int, heads: int) -> None:
        """Make it.

        Args:
            features: number and width of the features of one image.
            count: N.
            width: R.
            heads: of the attention.
        """
        super().__init__()
        number, feature_width = features
        self.queries = nn.Parameter(torch.randn(count, width) * 0.02)
        self.places = nn.Parameter(torch.randn(number, width) * 0.02)
        self.input_norm = nn.LayerNorm(feature_width)
        self.input = nn.Linear(feature_width, width)
        self.query_norm = nn.LayerNorm(width)
        self.key_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.output_norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, M, feature width) -> (B, N, R)."""
        keys = self.key_norm(self.input(self.input_norm(features.to(self.queries.dtype))) + self.places)
        queries = self.queries.expand(len(features), -1, -1)
        states = queries + self.attention(self.query_norm(queries), keys, keys, need_weights=False)[0]
        return self.output_norm(states + self.mlp(states))


class MaskRatioFeatures(nn.Module):
    """The mask ratio as one feature: sinusoids, then a two-layer network. Not stated by the paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, mask_ratio: Tensor) -> Tensor:
        """(B,) 0..1 -> (B, 1, R)."""
        half = self.width // 2
        steps = torch.arange(half, device=mask_ratio.device, dtype=torch.float32)
        # Wavelengths from 2 pi / 1000 to about 20 pi: the first tell single tokens apart, the last is monotonic.
        angles = mask_ratio.float()[:, None] * 1000 * torch.exp(-math.log(10000) * steps / half)
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.mlp(sinusoids.to(self.mlp[0].weight.dtype))[:, None]


__all__ = ["MaskRatioFeatures", "Resampler"]
