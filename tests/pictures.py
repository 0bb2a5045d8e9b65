"""Pictures for tests: seeded, small, whole and broken."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from uniface_ray.core.records import RejectKind


def picture(seed: int = 0, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Smooth random colours, (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The image as a file of Pillow's format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def variations(originals: Sequence[bytes], count: int, seed: int = 0) -> list[bytes]:
    """`count` different JPEGs: seeded crops, flips and tints of the originals in turn."""
    draw = np.random.default_rng(seed)
    made = []
    for i in range(count):
        image = Image.open(io.BytesIO(originals[i % len(originals)])).convert("RGB")
        width, height = image.size
        share = draw.uniform(0.85, 1.0)
        left, top = (draw.uniform(0, (1 - share) * side) for side in (width, height))
        image = image.crop((int(left), int(top), int(left + share * width), int(top + share * height)))
        if draw.random() < 0.5:
            image = ImageOps.mirror(image)
        tint = draw.uniform(0.9, 1.1, 3)
        image = Image.fromarray((np.asarray(image) * tint).clip(0, 255).astype(np.uint8))
        made.append(encoded(image, quality=90))
    return made


def group_photo(
    originals: Sequence[bytes], places: Sequence[tuple[int, int, int, float]], size: tuple[int, int] = (1200, 800)
) -> Image.Image:
    """Portraits pasted on a smooth background: the first at the first place, and so on.

    Args:
        originals: square portraits.
        places: x and y of a centre, side in pixels, degrees clockwise.
        size: (width, height) of the photo.
    """
    photo = picture(3, size)
    for original, (x, y, side, degrees) in zip(originals, places, strict=False):
        one = Image.open(io.BytesIO(original)).convert("RGBA").resize((side, side))
        one = one.rotate(-degrees, Image.Resampling.BICUBIC, expand=True)
        photo.paste(one, (x - one.width // 2, y - one.height // 2), one)
    return photo


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it has billions of pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def odd_files(original: bytes) -> dict[str, tuple[bytes, RejectKind | None]]:
    """File name -> (content, how it is rejected, or None where it must work), made from a JPEG."""
    image = Image.open(io.BytesIO(original)).convert("RGB")
    return {
        "truncated.jpg": (original[: len(original) // 2], RejectKind.UNREADABLE_IMAGE),
        "truncated-with-end.jpg": (original[: len(original) // 2] + b"\xff\xd9", RejectKind.UNREADABLE_IMAGE),
        "empty.jpg": (b"", RejectKind.UNREADABLE_IMAGE),
        "text.jpg": (b"this is no picture\n", RejectKind.UNSUPPORTED_FORMAT),
        "page.png": (b"<!DOCTYPE html><html>404</html>", RejectKind.UNSUPPORTED_FORMAT),
        "bomb.png": (bomb(), RejectKind.TOO_LARGE),
        "half.png": (encoded(image, "PNG")[:2000], RejectKind.UNREADABLE_IMAGE),
        "png-named.jpg": (encoded(image, "PNG"), None),
        "cmyk.jpg": (encoded(image.convert("CMYK"), quality=90), None),
        "grey.jpg": (encoded(image.convert("L")), None),
        "alpha.webp": (encoded(image.convert("RGBA"), "WEBP"), None),
    }
