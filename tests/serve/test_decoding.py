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
from uniface_ray.serve.decoding import Decoders

MOST = 4_000_000


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1, MOST, 30.0)
    yield decoders
    decoders.close()


def test_the_same_pixels_as_in_batch(decoders: Decoders) -> None:
    for data in (encoded(picture()), encoded(picture(1), "PNG"), encoded(picture(2, (7, 5)).convert("L"))):
        found = decoders.decode_now(data)
        assert np.array_equal(found, decode_image(data, MOST))
        assert found.flags.writeable


def test_odd_files_are_told_apart_and_the_process_lives(decoders: Decoders) -> None:
    decoders.decode_now(encoded(picture()))
    child = decoders._idle.queue[0]
    for name, (data, kind) in odd_files(encoded(picture(0, (300, 200)))).items():
        if kind is None:
            decoders.decode_now(data)
            continue
        with pytest.raises(RejectError) as error:
            decoders.decode_now(data)
        assert error.value.kind == kind, name
    assert decoders._idle.queue[0] is child


def test_a_mask_is_what_is_transparent_or_white(decoders: Decoders) -> None:
    white = Image.new("L", (8, 6), 0)
    white.paste(255, (2, 2, 5, 4))
    wanted = np.asarray(white)
    clear = Image.new("RGBA", (8, 6), "white")
    clear.putalpha(Image.fromarray(255 - wanted))
    for image in (white, clear, white.convert("RGBA")):
        assert np.array_equal(decoders.decode_now(encoded(image, "PNG"), "mask"), wanted)
    with pytest.raises(RejectError):
        decoders.decode_now(bomb(), "mask")


def test_a_picture_that_ends_its_process_costs_no_other(decoders: Decoders) -> None:
    decoders.decode_now(encoded(picture()))
    (child,) = decoders._idle.queue
    assert child
    os.kill(child.pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, lambda: os.kill(child.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(RejectError) as error:
        decoders.decode_now(encoded(picture()))
    assert error.value.kind == RejectKind.CRASHED
    assert decoders.decode_now(encoded(picture())).shape == (32, 48, 3)


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    decoders = Decoders(1, MOST, 0.3)
    try:
        decoders._timeout_s = 30.0
        decoders.decode_now(encoded(picture()))
        decoders._timeout_s = 0.3
        (child,) = decoders._idle.queue
        assert child
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(RejectError) as error:
            decoders.decode_now(encoded(picture()))
        assert error.value.kind == RejectKind.TIMEOUT
        assert not psutil.pid_exists(child.pid)
    finally:
        decoders.close()


def test_many_at_a_time_from_an_event_loop(decoders: Decoders) -> None:
    files = [encoded(picture(number, (16 + number, 16))) for number in range(20)]

    async def all_of_them() -> list[tuple[int, ...]]:
        return [found.shape for found in await asyncio.gather(*(decoders.decode(one) for one in files))]

    assert asyncio.run(all_of_them()) == [(16, 16 + number, 3) for number in range(20)]


def test_a_large_picture_leaves_no_large_process() -> None:
    decoders = Decoders(1, 20_000_000, 30.0)
    try:
        buffer = io.BytesIO()
        Image.new("RGB", (4000, 3000), "red").save(buffer, "JPEG")
        assert decoders.decode_now(buffer.getvalue()).shape == (3000, 4000, 3)
        assert list(decoders._idle.queue) == [None]
    finally:
        decoders.close()
