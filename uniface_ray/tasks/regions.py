"""The region of an image that is to be drawn anew: a mask of the picture's size, or a box."""

from collections.abc import Sequence

import numpy as np

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Pixels, RejectError, RejectKind, Row
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_mask


def region_of(row: Row, shape: tuple[int, int], size: int, max_pixels: int) -> Pixels | None:
    """The row's mask, fitted as its picture is; None where its task has none.

    Args:
        row: its field `mask` holds an encoded image, white where to draw; or its field `box` four fractions.
        shape: (H, W) of the picture.
        size: of the model's square.
        max_pixels: a mask of more is not decoded.

    Returns:
        uint8 (size, size), 255 where to draw, else 0.

    Raises:
        RejectError: a mask that cannot be decoded or has another size, a box outside the image, nothing to draw.
    """
    encoded, box = row.fields.pop("mask", None), row.fields.get("box")  # its bytes go no further
    if encoded is not None:
        mask = decode_image(encoded, max_pixels)[..., 0]
    elif box is not None:
        mask = boxed(box, shape)
    else:
        return None
    return fit_region(mask, shape, size)


def fit_region(mask: Pixels, shape: tuple[int, int], size: int) -> Pixels:
    """A mask (H, W[, channels]), fitted as its picture of `shape` (H, W) is; see `region_of`."""
    try:
        region: Pixels = fit_mask(mask, shape, size).astype(np.uint8) * 255
    except UserError as error:
        raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error
    if not region.any():
        raise RejectError(RejectKind.BAD_REQUEST, "the mask leaves nothing to draw in the square that the model sees")
    return region


def boxed(box: Sequence[float], shape: tuple[int, int]) -> Pixels:
    """A box in fractions of a picture of `shape` (H, W) -> a mask of that shape; see `region_of`."""
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise RejectError(
            RejectKind.BAD_REQUEST,
            f"box is {box}, but needs [x0, y0, x1, y1], fractions of the image with 0 <= x0 < x1 <= 1 and likewise y",
        )
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    mask[round(box[1] * height) : round(box[3] * height), round(box[0] * width) : round(box[2] * width)] = 255
    return mask


__all__ = ["boxed", "fit_region", "region_of"]
