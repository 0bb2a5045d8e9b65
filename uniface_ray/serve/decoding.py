"""Pictures decoded in child processes: one that crashes or hangs its decoder costs itself, and a moment."""

import asyncio
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Literal

import numpy as np
from PIL import Image

from uniface_ray.core.child import Beat, Child, EndedError, Handler
from uniface_ray.core.records import Pixels, Reject, RejectError, RejectKind
from uniface_ray.data.images import decode_image

Want = Literal["picture", "mask"]
_START_S = 60.0
# A process that has decoded so large a picture is replaced: its heap would stay that large.
_LARGE_PIXELS = 8_000_000


class Decoders:
    """A few processes, started when they are first needed. For the threads and the event loop of one process.

    Args:
        count: of processes.
        max_pixels: a picture that declares more is refused.
        timeout_s: that one picture may take.
    """

    def __init__(self, count: int, max_pixels: int, timeout_s: float) -> None:
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._idle: LifoQueue[Child | None] = LifoQueue()  # None: still to be started
        for _ in range(count):
            self._idle.put(None)
        self._count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decode")

    async def decode(self, data: bytes, want: Want = "picture") -> Pixels:
        """An encoded picture -> uint8 (H, W, 3) RGB, or (H, W) where it is a mask: 255 where to draw.

        Raises:
            RejectError: why not; `crashed` or `timeout` where it ended its process.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.decode_now, data, want)

    def decode_now(self, data: bytes, want: Want = "picture") -> Pixels:
        """The same, waiting for it."""
        child = self._idle.get()
        try:
            child = child or Child(_make_decoder, (self._max_pixels,), _START_S)
            answer = child.call(pickle.dumps((want, data)), self._timeout_s)
            pixels = _unpacked(answer)
            if pixels.shape[0] * pixels.shape[1] > _LARGE_PIXELS:
                child.close()
                child = None
            return pixels
        except EndedError as error:
            child = None
            kind = RejectKind.TIMEOUT if error.late else RejectKind.CRASHED
            raise RejectError(kind, f"the picture cannot be decoded: {error}") from error
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _ in range(self._count):
            if child := self._idle.get():
                child.close()


def _make_decoder(max_pixels: int) -> Handler:
    def handle(payload: bytes, beat: Beat) -> bytes:
        want, data = pickle.loads(payload)
        try:
            pixels = (_decode_mask if want == "mask" else decode_image)(data, max_pixels)
        except RejectError as error:
            return pickle.dumps(error.at("decode"))
        return pickle.dumps(pixels.shape) + pixels.tobytes()

    return handle


def _unpacked(answer: bytes) -> Pixels:
    head = pickle.loads(answer)
    if isinstance(head, Reject):
        raise RejectError(head.kind, head.message)
    count = int(np.prod(head))
    return np.frombuffer(answer, np.uint8, count, offset=len(answer) - count).reshape(head).copy()


def _decode_mask(data: bytes, max_pixels: int) -> Pixels:
    """uint8 (H, W), 255 where it is transparent, as OpenAI's masks are; of one that is opaque, its red."""
    mask = decode_image(data, max_pixels)[..., 0]
    with Image.open(io.BytesIO(data)) as image:
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if (alpha < 255).any():  # files of browsers have an alpha channel, used or not
                return np.where(alpha == 0, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(mask)


__all__ = ["Decoders"]
