"""Pictures that come with requests: checked, decoded, or an error that says why not."""

import asyncio
import base64
import binascii
import io

import numpy as np
from PIL import Image

from uniface_ray.core.config import DecodeConfig
from uniface_ray.core.records import Pixels, RejectError
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.serve.errors import ApiError, rejected


class Pictures:
    """Reads pictures, away from the event loop."""

    def __init__(self, limits: DecodeConfig) -> None:
        self.limits = limits

    async def from_url(self, url: str, param: str) -> Pixels:
        """uint8 (H, W, 3) RGB of a data: URL.

        Raises:
            ApiError: about the request's field `param`.
        """
        head, comma, text = url.partition(",")
        if not head.startswith("data:") or not comma:
            raise ApiError(400, f"{param}: give a data: URL", param=param, code="invalid_image_url")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ApiError(400, f"{param}: this is not base64 ({error})", param=param, code="invalid_base64") from error
        return await self.from_bytes(data, param)

    async def from_bytes(self, data: bytes, param: str) -> Pixels:
        """uint8 (H, W, 3) RGB of an encoded picture.

        Raises:
            ApiError: about the request's field `param`.
        """
        try:
            return await asyncio.to_thread(decode_image, data, self.limits.max_pixels)
        except RejectError as error:
            raise rejected(error.at("decode"), param) from error

    async def mask_from_bytes(self, data: bytes, param: str) -> Pixels:
        """uint8 (H, W), 255 where a mask says to draw: where it is transparent, or white where all of it is opaque.

        Raises:
            ApiError: about the request's field `param`.
        """
        mask = (await self.from_bytes(data, param))[..., 0]
        with Image.open(io.BytesIO(data)) as image:
            if image.has_transparency_data:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
                return np.where(alpha == 0, 255, 0).astype(np.uint8)
        return mask


async def fitted(picture: Pixels, size: int) -> Pixels:
    """uint8 (H, W, 3) RGB -> (3, size, size), as batch runs fit it."""
    return await asyncio.to_thread(fit_square, picture, size)


__all__ = ["Pictures", "fitted"]
