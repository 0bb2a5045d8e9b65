"""Pictures in child processes: good ones, bad ones, and such as end the process."""

import asyncio
import io
import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.pictures import bomb, encoded, odd_files, picture
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.serve.decoding import Decoders

MOST, SIZE = 4_000_000, 16


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1, MOST, 30.0)
    yield decoders
    decoders.close()


def test_the_same_pixels_as_in_batch(decoders: Decoders) -> None:
    for data in (encoded(picture()), encoded(picture(1), "PNG"), encoded(picture(2, (7, 5)).convert("L"))):
        shape, pixels = decoders.decode_now("picture", data, SIZE)
        decoded = decode_image(data, MOST)
        assert shape == decoded.shape[:2]
        assert np.array_equal(pixels, fit_square(decoded, SIZE))


def test_odd_files_are_told_apart_and_the_process_lives(decoders: Decoders) -> None:
    decoders.decode_now("picture", encoded(picture()), SIZE)
    child = decoders._idle.queue[0]
    for name, (data, kind) in odd_files(encoded(picture(0, (300, 200)))).items():
        if kind is None:
            decoders.decode_now("picture", data, SIZE)
            continue
        with pytest.raises(RejectError) as error:
            decoders.decode_now("picture", data, SIZE)
        assert error.value.kind == kind, name
    assert decoders._idle.queue[0] is child


def test_a_mask_is_what_is_transparent_or_white(decoders: Decoders) -> None:
    white = Image.new("L", (8, 6), 0)
    white.paste(255, (2, 2, 5, 4))
    wanted = np.asarray(white)
    clear = Image.new("RGBA", (8, 6), "white")
    clear.putalpha(Image.fromarray(255 - wanted))
    for image in (white, clear, white.convert("RGBA")):
        assert np.array_equal(decoders.decode_now("mask", encoded(image, "PNG")), wanted)
    with pytest.raises(RejectError):
        decoders.decode_now("mask", bomb())


def test_where_to_draw_is_fitted_as_the_picture_is(decoders: Decoders) -> None:
    white = Image.new("L", (32, 64), 0)
    white.paste(255, (0, 16, 32, 32))
    whole = np.zeros((16, 16), np.uint8)
    whole[:8] = 255
    mask = decoders.decode_now("region", encoded(white, "PNG"), (64, 32), SIZE)
    assert np.array_equal(mask, whole)
    assert np.array_equal(decoders.decode_now("box", (0, 0.25, 1, 0.5), (64, 32), SIZE), whole)
    for box, why in (((0, 0, 1, 0.1), "nothing to draw"), ((), "needs")):
        with pytest.raises(RejectError, match=why):
            decoders.decode_now("box", box, (64, 32), SIZE)
    with pytest.raises(RejectError, match="mask is 64 x 32"):
        decoders.decode_now("region", encoded(white, "PNG"), (64, 33), SIZE)


def test_a_picture_that_ends_its_process_costs_no_other(decoders: Decoders) -> None:
    decoders.decode_now("picture", encoded(picture()), SIZE)
    (child,) = decoders._idle.queue
    assert child
    os.kill(child.pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, lambda: os.kill(child.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(RejectError) as error:
        decoders.decode_now("picture", encoded(picture()), SIZE)
    assert error.value.kind == RejectKind.CRASHED
    assert decoders.decode_now("picture", encoded(picture()), SIZE).shape == (32, 48)


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    decoders = Decoders(1, MOST, 0.3)
    try:
        decoders._timeout_s = 30.0
        decoders.decode_now("picture", encoded(picture()), SIZE)
        decoders._timeout_s = 0.3
        (child,) = decoders._idle.queue
        assert child
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(RejectError) as error:
            decoders.decode_now("picture", encoded(picture()), SIZE)
        assert error.value.kind == RejectKind.TIMEOUT
        assert not psutil.pid_exists(child.pid)
    finally:
        decoders.close()


def test_many_at_a_time_from_an_event_loop(decoders: Decoders) -> None:
    files = [encoded(picture(number, (16 + number, 16))) for number in range(20)]

    async def all_of_them() -> list[tuple[int, ...]]:
        found = await asyncio.gather(*(decoders.decode("picture", one, SIZE) for one in files))
        return [one.shape for one in found]

    assert asyncio.run(all_of_them()) == [(16, 16 + number) for number in range(20)]


def test_large_pictures_leave_the_process_as_it_is() -> None:
    decoders = Decoders(1, 20_000_000, 30.0)
    files = []
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.new("RGB", (3400, 3000), "red").save(buffer, kind)
        files.append(buffer.getvalue())
    try:
        decoders.decode_now("picture", encoded(picture()), SIZE)
        (child,) = decoders._idle.queue
        assert child
        process = psutil.Process(child.pid)
        before = process.memory_info().rss
        for data in files * 3:
            assert decoders.decode_now("picture", data, SIZE).shape == (3000, 3400)
        assert process.memory_info().rss - before < 2 * 3000 * 3400
        assert list(decoders._idle.queue) == [child]
    finally:
        decoders.close()
