"""Pictures that come with requests: checked, decoded, or an error that says why not."""

import asyncio
import base64
import binascii

from uniface_ray.core.records import Pixels, RejectError, RejectKind
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.data.pixels import fit_square
from uniface_ray.serve.decoding import Decoders, Want
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.fetch import Fetcher, fetcher_of


class Pictures:
    """Reads pictures, away from the event loop.

    Args:
        decoders: where they are decoded.
        max_bytes: of an encoded one.
        fetcher: of https:// addresses; None where they are not allowed.
    """

    def __init__(self, decoders: Decoders, max_bytes: int, fetcher: Fetcher | None = None) -> None:
        self._decoders = decoders
        self._max_bytes = max_bytes
        self._fetcher = fetcher

    async def close(self) -> None:
        """End the processes and connections."""
        await asyncio.to_thread(self._decoders.close)
        if self._fetcher:
            await self._fetcher.close()

    async def from_url(self, url: str, param: str) -> Pixels:
        """uint8 (H, W, 3) RGB of a data: URL, or of an https:// one where those are allowed.

        Raises:
            ApiError: about the request's field `param`.
        """
        return await self.from_bytes(await self.bytes_of_url(url, param), param)

    async def bytes_of_url(self, url: str, param: str) -> bytes:
        """The encoded picture of a data: URL, or of an https:// one where those are allowed.

        Raises:
            ApiError: about the request's field `param`.
        """
        if url[:5].lower() == "data:":
            return await asyncio.to_thread(_inline, url, self._max_bytes, param)
        if self._fetcher and url[:6].lower() == "https:":
            return await self._fetcher.get(url, param)
        allowed = "a data: URL, or an https:// address" if self._fetcher else "a data: URL"
        raise ApiError(400, f"{param}: give {allowed}, not {url!r:.60}", param=param, code="invalid_image_url")

    async def from_bytes(self, data: bytes, param: str) -> Pixels:
        """uint8 (H, W, 3) RGB of an encoded picture.

        Raises:
            ApiError: about the request's field `param`.
        """
        return await self._decode(data, "picture", param)

    async def mask_from_bytes(self, data: bytes, param: str) -> Pixels:
        """uint8 (H, W), 255 where a mask says to draw: where it is transparent, or white where all of it is opaque.

        Raises:
            ApiError: about the request's field `param`.
        """
        return await self._decode(data, "mask", param)

    async def _decode(self, data: bytes, want: Want, param: str) -> Pixels:
        _check_size(len(data), self._max_bytes, param)
        try:
            return await self._decoders.decode(data, want)
        except RejectError as error:
            status = 413 if error.kind == RejectKind.TOO_LARGE else 400
            raise ApiError(status, error.message, param=param, code=str(error.kind)) from error


def pictures_of(config: ServeConfig) -> Pictures:
    """Reads pictures as the settings of a server allow."""
    decode = config.decode
    decoders = Decoders(config.guard.decoders, decode.max_pixels, decode.timeout_s)
    return Pictures(decoders, decode.max_bytes, fetcher_of(config))


def _inline(url: str, max_bytes: int, param: str) -> bytes:
    head, comma, text = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        what = f"{param}: a data: URL of a picture begins like data:image/jpeg;base64, and yours like {head!r:.60}"
        raise ApiError(400, what, param=param, code="invalid_image_url")
    _check_size(len(text) * 3 // 4 - 2, max_bytes, param)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: letters that are not ASCII's
        raise ApiError(400, f"{param}: this is not base64 ({error})", param=param, code="invalid_base64") from error


def _check_size(size: int, most: int, param: str) -> None:
    if size > most:
        what = f"{param}: the picture has {size:,} bytes, but decode.max_bytes allows {most:,}"
        raise ApiError(413, what, param=param, code=str(RejectKind.TOO_LARGE))


async def fitted(picture: Pixels, size: int) -> Pixels:
    """uint8 (H, W, 3) RGB -> (3, size, size), as batch runs fit it."""
    return await asyncio.to_thread(fit_square, picture, size)


__all__ = ["Pictures", "fitted", "pictures_of"]
