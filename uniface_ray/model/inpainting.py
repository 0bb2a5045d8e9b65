"""Drawing a part of a picture anew: a pixel mask becomes tokens to draw, and what is outside it stays as it was.

Show-o's inpainting (inference_t2i.py, modeling_showo.py:104-181) and what a user misses there: a mask of the picture's
own size, and pixels outside it that are the original's. The engine draws it, beside whatever else is drawn. Letters in
shapes: S pixels of an image's side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.core.errors import UserError


def masked_tokens(mask: Tensor, grid: int, threshold: float = 0.5) -> Tensor:
    """A mask in pixels -> which tokens it means.

    Args:
        mask: bool (S, S).
        grid: tokens of a side; divides S.
        threshold: least share of a token's pixels.

    Returns:
        bool (grid * grid,), row by row.

    Raises:
        UserError: no token reaches the threshold.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold is {threshold}, but a share of a token's pixels is over 0 and at most 1")
    share = F.adaptive_avg_pool2d(mask.float()[None, None], grid).flatten()
    # A mean in float32 may miss the share it stands for by its last digit.
    tokens = share >= threshold - 1e-6
    if not tokens.any():
        raise UserError(
            f"mask covers {int(mask.sum())} of {mask.numel()} pixels and at most {float(share.max()):.0%} of any of "
            f"{grid} x {grid} tokens, but a token is drawn from {threshold:.0%}: enlarge the mask or lower threshold"
        )
    return tokens


def paste(original: Tensor, drawn: Tensor, mask: Tensor, feather: int = 0) -> Tensor:
    """The drawn picture where the mask is, the original elsewhere.

    Args:
        original: uint8 (3, H, W).
        drawn: uint8 (3, H, W).
        mask: bool (H, W), True for `drawn`.
        feather: pixels outside the mask over which one passes into the other.

    Returns:
        uint8 (3, H, W).
    """
    weight, reach = mask.float()[None], feather // 2
    if reach:
        # A mask grown by half the way, then averaged over it: 1 in all of the mask, 0 beyond `feather`.
        grown = F.max_pool2d(weight, 2 * reach + 1, stride=1, padding=reach)
        weight = F.avg_pool2d(grown, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    mixed = original + weight * (drawn.float() - original)
    return mixed.round().clamp(0, 255).to(torch.uint8)


__all__ = ["masked_tokens", "paste"]
