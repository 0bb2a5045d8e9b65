"""Pictures decoded in child processes: one that crashes or hangs its decoder costs itself, and a moment."""

import asyncio
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from uniface_ray.core.child import Beat, Child, EndedError, Handler
from uniface_ray.core.records import Pixels, Reject, RejectError, RejectKind
from uniface_ray.data.images import decode_image
from uniface_ray.engine.allocator import return_freed_memory

Want = Literal["picture", "region", "box", "mask"]
_START_S = 60.0


class Fitted(NamedTuple):
    """A picture as the model sees it.

    Attributes:
        shape: (H, W) that it had.
        pixels: uint8 (3, size, size) RGB.
    """

    shape: tuple[int, int]
    pixels: Pixels


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

    async def decode(self, want: Want, *arguments: Any) -> Any:
        """What is wanted of an encoded picture or mask. Only what is fitted leaves the process, whatever its size.

        Args:
            want: `picture`, of (data, size), is `Fitted`; `region`, of (data of a mask, (H, W) of its picture, size),
                and `box`, of (box, (H, W), size), are uint8 (size, size), 255 where to draw; `mask`, of (data,), is all
                of it, uint8 (H, W).
            arguments: as `want` says.

        Raises:
            RejectError: why not; `crashed` or `timeout` where it ended its process.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.decode_now, want, *arguments)

    def decode_now(self, want: Want, *arguments: Any) -> Any:
        """The same, waiting for it."""
        child = self._idle.get()
        try:
            child = child or Child(_make_decoder, (self._max_pixels,), _START_S)
            answer = pickle.loads(child.call(pickle.dumps((want, arguments)), self._timeout_s))
            if isinstance(answer, Reject):
                raise RejectError(answer.kind, answer.message)
            return answer
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
    import torch  # only here: a door starts sooner without

    from uniface_ray.data.pixels import fit_square
    from uniface_ray.tasks.regions import boxed, fit_region

    torch.set_num_threads(1)
    return_freed_memory()

    def picture(data: bytes, size: int) -> Fitted:
        pixels = decode_image(data, max_pixels)
        height, width, _ = pixels.shape
        return Fitted((height, width), fit_square(pixels, size))

    wanted: dict[Want, Callable[..., Any]] = {
        "picture": picture,
        "region": lambda data, shape, size: fit_region(_decode_mask(data, max_pixels), shape, size),
        "box": lambda box, shape, size: fit_region(boxed(box, shape), shape, size),
        "mask": lambda data: _decode_mask(data, max_pixels),
    }

    def handle(payload: bytes, beat: Beat) -> bytes:
        want, arguments = pickle.loads(payload)
        try:
            return pickle.dumps(wanted[want](*arguments))
        except RejectError as error:
            return pickle.dumps(error.at("decode"))

    return handle


def _decode_mask(data: bytes, max_pixels: int) -> Pixels:
    """uint8 (H, W), 255 where it is transparent, as OpenAI's masks are; of one that is opaque, its red."""
    mask = decode_image(data, max_pixels)[..., 0]
    with Image.open(io.BytesIO(data)) as image:
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if (alpha < 255).any():  # files of browsers have an alpha channel, used or not
                return np.where(alpha == 0, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(mask)


__all__ = ["Decoders", "Fitted", "Want"]
