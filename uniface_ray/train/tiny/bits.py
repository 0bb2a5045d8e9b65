"""Tables of image tokens written as sums of one vector a bit, while training.

Codes that share bits then share meaning, which a few thousand faces could not teach a free table. The sums are written
into the table in the end, and nobody can tell.
"""

import torch
from torch import Tensor, nn

from uniface_ray.model.configuration import UniFaceConfig


class BitRows(nn.Module):
    """A parametrisation (torch.nn.utils.parametrize) of a (vocabulary, D) table: image rows get the sum of their bits.

    Args:
        config: of the model.
        std: deviation of a row's sum at the start.
    """

    signs: Tensor

    def __init__(self, config: UniFaceConfig, std: float) -> None:
        super().__init__()
        bits = config.magvit_config.latent_bits
        powers = 2 ** torch.arange(bits - 1, -1, -1)
        signs = ((torch.arange(config.codebook_size)[:, None] & powers) > 0).float() * 2 - 1
        self.register_buffer("signs", signs, persistent=False)
        self.rows = slice(config.image_token_offset, config.mask_token_id)
        self.vectors = nn.Parameter(torch.randn(bits, config.backbone_config.hidden_size) * std / bits**0.5)

    def forward(self, free: Tensor) -> Tensor:
        """(vocabulary, D) -> the same with sums added to the image rows."""
        images = free[self.rows] + self.signs @ self.vectors
        return torch.cat([free[: self.rows.start], images, free[self.rows.stop :]])


def flip_bits(codes: Tensor, bits: int, share: float, generator: torch.Generator) -> Tensor:
    """Invert each bit of each code (B, N) with probability `share`."""
    flips = torch.rand((*codes.shape, bits), generator=generator) < share
    return codes ^ (flips.long() * 2 ** torch.arange(bits)).sum(-1)
