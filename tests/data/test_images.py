import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.pictures import bomb, encoded, odd_files, picture
from uniface_ray.core.records import Pixels, RejectError, RejectKind
from uniface_ray.data.images import decode_image

LIMIT = 1_000_000
PICTURE = picture(size=(48, 32))
KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


pytestmark = pytest.mark.filterwarnings("error")


def decode(data: bytes) -> Pixels:
    pixels = decode_image(data, LIMIT)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable  # torch warns of arrays that are not
    return pixels


def rejected(data: bytes, limit: int = LIMIT) -> RejectError:
    with pytest.raises(RejectError) as caught:
        decode_image(data, limit)
    return caught.value


def assert_close(pixels: Pixels, expected: Image.Image, most: int) -> None:
    difference = np.abs(pixels.astype(int) - np.asarray(expected.convert("RGB")).astype(int))
    assert difference.max() <= most


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_decodes_as_pillow_does(kind: str) -> None:
    data = encoded(PICTURE, kind)
    assert_close(decode(data), Image.open(io.BytesIO(data)), most=0)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"quality": 30}])
def test_kinds_of_jpeg(options: dict[str, object]) -> None:
    data = encoded(PICTURE, **options)
    assert_close(decode(data), Image.open(io.BytesIO(data)), most=0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    assert_close(decode(data), ImageOps.exif_transpose(Image.open(io.BytesIO(data))), most=0)


@pytest.mark.parametrize("damage", [slice(0, 8), slice(8, 9)])  # of its header; of the number of its entries
def test_a_broken_exif_costs_no_picture(damage: slice) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    data = bytearray(encoded(PICTURE, exif=exif))
    block = memoryview(data)[data.index(b"Exif\0\0") + 6 :]
    block[damage] = b"\xff" * (damage.stop - damage.start)
    assert decode(bytes(data)).shape == (32, 48, 3)


def test_grey_and_cmyk() -> None:
    assert_close(decode(encoded(PICTURE.convert("L"))), PICTURE.convert("L"), most=8)
    assert_close(decode(encoded(PICTURE.convert("CMYK"), quality=95)), PICTURE, most=12)  # inverted, as Adobe's are
    assert_close(decode(encoded(PICTURE.convert("CMYK"), "TIFF")), PICTURE, most=0)
    assert_close(decode(encoded(PICTURE.convert("1"), "PNG")), PICTURE.convert("1"), most=0)


def test_transparency_is_put_on_white() -> None:
    image = PICTURE.convert("RGBA")
    image.putalpha(0)
    for kind in ("PNG", "WEBP", "TIFF"):
        assert (decode(encoded(image, kind)) == 255).all()
    image.putalpha(128)
    on_white = Image.blend(Image.new("RGB", image.size, "white"), PICTURE, 128 / 255)
    assert_close(decode(encoded(image, "PNG")), on_white, most=1)
    grey = PICTURE.convert("LA")
    grey.putalpha(0)
    assert (decode(encoded(grey, "PNG")) == 255).all()
    palette = PICTURE.convert("P")
    assert_close(decode(encoded(palette, "PNG")), palette, most=0)
    one_colour = palette.getpixel((0, 0))
    assert (decode(encoded(palette, "PNG", transparency=one_colour))[0, 0] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 32 * 48).astype(np.uint16).reshape(32, 48)
    pixels = decode(encoded(Image.fromarray(ramp), kind))
    assert (pixels == np.round(ramp / 257)[..., None]).all()


def test_thirty_two_bits_have_no_known_white() -> None:
    for dtype in (np.int32, np.float32):
        error = rejected(encoded(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF"))
        assert error.kind == RejectKind.UNSUPPORTED_FORMAT
        assert "32 bits" in error.message


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    pixels = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert pixels.shape == (10, 20, 3)
    assert pixels[..., 0].min() > 200
    assert pixels[..., 2].max() < 50


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.98])
def test_a_file_cut_short_is_never_half_a_picture(kind: str, share: float) -> None:
    data = encoded(picture(size=(200, 150)), kind)
    error = rejected(data[: int(len(data) * share)])
    assert error.kind == RejectKind.UNREADABLE_IMAGE
    assert "damaged or cut short" in error.message


def test_odd_files(portraits: list[bytes]) -> None:
    for name, (data, kind) in odd_files(portraits[0]).items():
        if kind is None:
            assert decode(data).size, name
        else:
            assert rejected(data).kind == kind, name


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_over_the_limit_is_not_decoded(kind: str) -> None:
    error = rejected(encoded(PICTURE, kind), limit=48 * 32 - 1)
    assert error.kind == RejectKind.TOO_LARGE
    assert error.message == "the image is 48 x 32 = 1,536 pixels, but decode.max_pixels allows 1,535"
    assert decode_image(encoded(PICTURE, kind), 48 * 32).shape == (32, 48, 3)


def test_the_limit_is_ours_not_pillows() -> None:
    # Pillow's own stops at 179 million pixels; a larger max_pixels must reach the decoder, which sees the damage.
    assert rejected(bomb(14_000, 14_000), limit=10**10).kind == RejectKind.UNREADABLE_IMAGE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"hello", "it looks like text, beginning 'hello'"),
        (b"\n<html><body>404", "it looks like a web page"),
        (b"<svg xmlns=''/>", "it looks like SVG or XML"),
        (b"%PDF-1.7", "it looks like a PDF document"),
        (b"PK\x03\x04....", "it looks like a zip archive"),
        (b"\0\0\0\x18ftypheic", "it looks like a HEIC image (convert it to JPEG"),
        (b"\0\0\0\x18ftypisom", "it looks like an MP4 or QuickTime video"),
        (b"\0\x01\x02", "it begins with the bytes 00 01 02"),
    ],
)
def test_what_else_it_may_be(data: bytes, words: str) -> None:
    assert words in rejected(data).message


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_damage_is_rejected_or_decoded_but_nothing_else(kind: str, data: st.DataObject) -> None:
    original = bytearray(encoded(PICTURE, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RejectError):
        decode(bytes(original))
