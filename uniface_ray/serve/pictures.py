"""Pictures that come with requests: checked, decoded, or an error that says why not."""

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from uniface_ray.core.records import Pixels, RejectError, RejectKind
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.task_config import Box
from uniface_ray.serve.decoding import Decoders, Fitted, Want
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.fetch import Fetcher, fetcher_of
from uniface_ray.serve.threads import WORK, run_in


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
        await run_in(WORK, self._decoders.close)
        if self._fetcher:
            await self._fetcher.close()

    async def picture(self, source: str | bytes, param: str, size: int) -> Fitted:
        """A picture, fitted to the model's square.

        Args:
            source: an encoded picture; or a data: URL, or an https:// one where those are allowed.
            param: the field of the request that has it.
            size: of the square.

        Raises:
            ApiError: about the field.
        """
        async with self._read(source, param) as data:
            picture: Fitted = await self._decode("picture", param, data, size)
            return picture

    async def region(self, source: str | bytes | Box, param: str, shape: tuple[int, int], size: int) -> Pixels:
        """Where to draw: uint8 (size, size), 255 there, fitted as the picture is.

        Args:
            source: an encoded mask, which says so where it is transparent, or white where all of it is opaque; or a URL
                of one, as of a picture; or a box in fractions of the picture.
            param: the field of the request that has it.
            shape: (H, W) of the picture.
            size: of the square.

        Raises:
            ApiError: about the field; also where nothing is left to draw.
        """
        if not isinstance(source, str | bytes):
            box: Pixels = await self._decode("box", param, source, shape, size)
            return box
        async with self._read(source, param) as data:
            region: Pixels = await self._decode("region", param, data, shape, size)
            return region

    async def bytes_of_url(self, url: str, param: str) -> bytes:
        """The encoded picture of a data: URL, or of an https:// one where those are allowed.

        Raises:
            ApiError: about the request's field `param`.
        """
        async with self._read(url, param) as data:
            return data

    async def mask(self, data: bytes, param: str) -> Pixels:
        """uint8 (H, W) of an encoded mask: 255 where it says to draw.

        Raises:
            ApiError: about the request's field `param`.
        """
        _check_size(len(data), self._max_bytes, param)
        mask: Pixels = await self._decode("mask", param, data)
        return mask

    @asynccontextmanager
    async def _read(self, source: str | bytes, param: str) -> AsyncIterator[bytes]:
        if isinstance(source, bytes):
            _check_size(len(source), self._max_bytes, param)
            yield source
            return
        if source[:5].lower() == "data:":
            yield await run_in(WORK, _inline, source, self._max_bytes, param)
            return
        if self._fetcher and source[:6].lower() == "https:":
            async with self._fetcher.fetched(source, param) as data:
                yield data
            return
        allowed = "a data: URL, or an https:// address" if self._fetcher else "a data: URL"
        raise ApiError(400, f"{param}: give {allowed}, not {source!r:.60}", param=param, code="invalid_image_url")

    async def _decode(self, want: Want, param: str, *arguments: Any) -> Any:
        try:
            return await self._decoders.decode(want, *arguments)
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


__all__ = ["Pictures", "pictures_of"]
