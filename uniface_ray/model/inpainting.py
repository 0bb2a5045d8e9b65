"""Drawing a part of a picture anew: a pixel mask becomes tokens to draw, and what is outside it stays as it was.

Show-o's inpainting (inference_t2i.py, modeling_showo.py:104-181) and what a user misses there: a mask of the picture's
own size, and pixels outside it that are the original's. Letters in shapes: R pictures, S pixels of an image's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range, to_model_range


@dataclass(frozen=True, eq=False)
class InpaintRequest:
    """One picture to change.

    Attributes:
        pixels: uint8 (3, S, S) RGB.
        mask: bool (S, S), True where to draw (`fit_mask`).
        text_ids: tokens of the prompt that tells what to draw there.
        seed: of the image.
        settings: of the drawing.
        threshold: a token is drawn anew where at least this share of its pixels is masked; Show-o's 0.5.
        feather: pixels outside the mask over which the new picture passes into the old; 0 is a sharp edge.
    """

    pixels: Tensor
    mask: Tensor
    text_ids: Sequence[int]
    seed: int
    settings: DrawSettings = field(default_factory=DrawSettings)
    threshold: float = 0.5
    feather: int = 0


@torch.inference_mode()
def inpaint(model: UniFaceForConditionalGeneration, requests: Sequence[InpaintRequest]) -> Tensor:
    """Draw the masked part of every picture anew, as one batch.

    Args:
        model: in eval mode.
        requests: at least one.

    Returns:
        uint8 (R, 3, S, S) on the CPU; farther than `feather` from its mask a picture is what it was.

    Raises:
        UserError: a mask or picture of another size, a mask without a token to draw.
    """
    codes = draw(model, draw_requests(model, requests))
    drawn = from_model_range(model.decode_images(codes)).cpu()
    return torch.stack(
        [paste(one.pixels, new, one.mask, one.feather) for one, new in zip(requests, drawn, strict=True)]
    )


def draw_requests(model: UniFaceForConditionalGeneration, requests: Sequence[InpaintRequest]) -> list[DrawRequest]:
    """What there is to draw, for batches in which others draw too; for errors see `inpaint`."""
    side = model.config.magvit_config.image_size
    unknown = []
    for one in requests:
        if one.pixels.shape != (3, side, side) or one.mask.shape != (side, side):
            raise UserError(
                f"picture is {tuple(one.pixels.shape)} and mask {tuple(one.mask.shape)}, but this model takes "
                f"(3, {side}, {side}) and ({side}, {side}): fit both with `fit_square` and `fit_mask`"
            )
        unknown.append(masked_tokens(one.mask, model.config.magvit_config.grid_size, one.threshold))
    codes = model.encode_images(to_model_range(torch.stack([one.pixels for one in requests])).to(model.device))
    return [
        DrawRequest(one.text_ids, one.seed, one.settings, *known)
        for one, *known in zip(requests, codes, unknown, strict=True)
    ]


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


__all__ = ["InpaintRequest", "draw_requests", "inpaint", "masked_tokens", "paste"]
