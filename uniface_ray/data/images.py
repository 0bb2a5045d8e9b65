"""Decode an image file's bytes to RGB pixels, or say why not."""

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from uniface_ray.core.records import Pixels, RejectError, RejectKind
from uniface_ray.data.signatures import describe, format_of

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
_ORIENTATION = 0x0112  # the EXIF tag
_EXIF_WITHIN = 2**18  # bytes: EXIF stands among a JPEG's first segments


def decode_image(data: bytes, max_pixels: int) -> Pixels:
    """Encoded image -> RGB pixels, uint8 (H, W, 3), C-contiguous, upright as its EXIF says.

    JPEG goes through libjpeg-turbo, the rest through Pillow: PNG, WebP, GIF, BMP and TIFF, the first frame of
    several. Transparent pixels are put on white, the page that such pictures are drawn for; 16 bits are
    scaled to 8. What the file is called does not matter. Colour profiles are not applied.

    Args:
        data: the whole file.
        max_pixels: an image that declares more is not decoded.

    Raises:
        RejectError: unreadable_image (empty, cut short, damaged), unsupported_format, too_large or
            out_of_memory.
    """
    if not data:
        raise RejectError(RejectKind.UNREADABLE_IMAGE, "the file is empty")
    kind = format_of(data)
    if kind is None:
        raise RejectError(RejectKind.UNSUPPORTED_FORMAT, f"not an image that can be read: {describe(data)}")
    try:
        pixels = _decode_jpeg(data, max_pixels) if kind == "JPEG" else None
        return _decode_with_pillow(data, kind, max_pixels) if pixels is None else pixels
    except RejectError:
        raise
    except MemoryError as error:
        raise RejectError(RejectKind.OUT_OF_MEMORY, f"no memory to decode this {kind}") from error
    except Exception as error:  # damaged files make decoders raise all kinds, SyntaxError to struct.error
        reason = f"{kind} that is damaged or cut short: {error or type(error).__name__}"
        raise RejectError(RejectKind.UNREADABLE_IMAGE, reason) from error


def _decode_jpeg(data: bytes, max_pixels: int) -> Pixels | None:
    """The fast path; None for what only Pillow can convert (CMYK and its kin) or tell (rare sampling)."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(width, height, max_pixels)
    if colorspace not in ("YCbCr", "RGB", "Gray"):
        return None
    # Strict: otherwise what is missing of a file cut short comes out grey, without a word.
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    orientation = 1
    if data.find(b"Exif\0\0", 0, _EXIF_WITHIN) >= 0:
        with warnings.catch_warnings(action="ignore"):
            orientation = _orientation_of(JpegImageFile(io.BytesIO(data)))
    return _upright(pixels, orientation)


def _decode_with_pillow(data: bytes, kind: str, max_pixels: int) -> Pixels:
    # The reader's own class, not Image.open: that has a limit of its own, and tries formats nobody asked for.
    with warnings.catch_warnings(action="ignore"), _READERS[kind](io.BytesIO(data)) as image:
        _check_pixels(*image.size, max_pixels)
        image.load()
        orientation = _orientation_of(image)
        pixels = np.array(_to_rgb(image, kind))
    return _upright(pixels, orientation)


def _to_rgb(image: Image.Image, kind: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits at 255. 65535 / 257 = 255.
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise RejectError(
            RejectKind.UNSUPPORTED_FORMAT,
            f"{kind} with pixels of 32 bits, whose black and white are unknown: save it with 8 or 16 bits",
        )
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return image.convert("RGB")


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise RejectError(
            RejectKind.TOO_LARGE,
            f"the image is {width} x {height} = {width * height:,} pixels, but decode.max_pixels allows {max_pixels:,}",
        )


def _orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1..8; 1 where it is not said or cannot be read, no reason to lose a picture."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (CIPA DC-008, 4.6.4: where the stored row 0 and column 0 are seen)."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.swapaxes(0, 1)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)
