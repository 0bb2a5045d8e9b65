"""Drawing what is around a picture: a larger canvas of tokens, filled window by window.

A window is an image as the model knows it, N tokens, at most half of them new: Show-o's extrapolation
(inference_t2i.py:226-300) in any direction and to any size. The canvas is decoded as one picture. Letters in shapes:
g tokens of an image's side, S its pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.inpainting import paste
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range, to_model_range


@dataclass(frozen=True, eq=False)
class OutpaintRequest:
    """One picture to extend.

    Attributes:
        pixels: uint8 (3, S, S) RGB.
        text_ids: tokens of the prompt.
        seed: of the image.
        left: tokens to add at this side; one is S / g pixels. So are `right`, `up` and `down`.
        settings: of the drawing of each window.
        feather: pixels inside the old picture's edge over which it passes into the new part.
    """

    pixels: Tensor
    text_ids: Sequence[int]
    seed: int
    left: int = 0
    right: int = 0
    up: int = 0
    down: int = 0
    settings: DrawSettings = field(default_factory=DrawSettings)
    feather: int = 0

    def __post_init__(self) -> None:
        sides = {name: getattr(self, name) for name in ("left", "right", "up", "down")}
        if min(sides.values()) < 0 or not any(sides.values()):
            raise UserError(f"a picture is extended by {sides} tokens: give at least one side a number over 0")


class _Canvas:
    """Tokens of one picture that grows."""

    def __init__(self, request: OutpaintRequest, codes: Tensor, grid: int) -> None:
        self.request, self.grid = request, grid
        self.generator = torch.Generator().manual_seed(request.seed)
        around = (request.left, request.right, request.up, request.down)
        self.codes = F.pad(codes.reshape(grid, grid), around)
        self.unknown = F.pad(torch.zeros(grid, grid, dtype=torch.bool), around, value=True)

    def next_window(self) -> tuple[slice, slice] | None:
        """Where to draw next: most tokens to draw, but at most half of the window; None when all are drawn.

        There is one while any token is unknown: one step aside changes a window by at most g of its g x g tokens.
        """
        if not self.unknown.any():
            return None
        size = self.grid**2
        new = (F.avg_pool2d(self.unknown[None].float(), self.grid, stride=1)[0] * size).round().long()
        best = int(torch.where(new <= size // 2, new, -1).argmax())
        top, left = divmod(best, new.shape[1])
        return slice(top, top + self.grid), slice(left, left + self.grid)

    def draw_request(self, window: tuple[slice, slice]) -> DrawRequest:
        seed = int(torch.randint(2**62, (), generator=self.generator))
        known = self.codes[window].clone().flatten(), self.unknown[window].clone().flatten()
        return DrawRequest(self.request.text_ids, seed, self.request.settings, *known)

    def fill(self, window: tuple[slice, slice], codes: Tensor) -> None:
        self.codes[window] = codes.reshape(self.grid, self.grid)
        self.unknown[window] = False


@torch.inference_mode()
def outpaint(model: UniFaceForConditionalGeneration, requests: Sequence[OutpaintRequest]) -> list[Tensor]:
    """Extend every picture, all windows that can be drawn together as one batch.

    Args:
        model: in eval mode.
        requests: at least one.

    Returns:
        uint8 (3, (up + g + down) S / g, (left + g + right) S / g) each, on the CPU, with the old picture in its place.

    Raises:
        UserError: a picture of another size than the model's.
    """
    magvit = model.config.magvit_config
    side, grid = magvit.image_size, magvit.grid_size
    for request in requests:
        if request.pixels.shape != (3, side, side):
            raise UserError(f"picture is {tuple(request.pixels.shape)}, but this model takes (3, {side}, {side})")
    encoded = model.encode_images(to_model_range(torch.stack([one.pixels for one in requests])).to(model.device)).cpu()
    canvases = [_Canvas(request, codes, grid) for request, codes in zip(requests, encoded, strict=True)]
    while True:
        windows = [(canvas, window) for canvas in canvases if (window := canvas.next_window()) is not None]
        if not windows:
            return [_finish(model, canvas) for canvas in canvases]
        drawn = draw(model, [canvas.draw_request(window) for canvas, window in windows])
        for (canvas, window), codes in zip(windows, drawn.cpu(), strict=True):
            canvas.fill(window, codes)


def _finish(model: UniFaceForConditionalGeneration, canvas: _Canvas) -> Tensor:
    request, token = canvas.request, model.config.magvit_config.downsampling
    height, width = canvas.codes.shape
    codes = canvas.codes.flatten()[None].to(model.device)
    drawn = from_model_range(model.decode_images(codes, (height, width))[0]).cpu()
    around = [token * tokens for tokens in (request.left, request.right, request.up, request.down)]
    is_new = F.pad(torch.zeros(request.pixels.shape[1:], dtype=torch.bool), around, value=True)
    return paste(F.pad(request.pixels, around), drawn, is_new, request.feather)


__all__ = ["OutpaintRequest", "outpaint"]
