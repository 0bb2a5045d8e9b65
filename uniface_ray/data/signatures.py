"""Tell a file's format by its first bytes."""

_HEIC = "a HEIC image (convert it to JPEG)"
_OTHERS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"PAR1", "a parquet file"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyphei", _HEIC),
    (4, b"ftypmif1", _HEIC),
    (4, b"ftyp", "an MP4 or QuickTime video"),
)


def format_of(data: bytes) -> str | None:
    """JPEG, PNG, WebP, GIF, BMP or TIFF; None for all else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    return None


def describe(data: bytes) -> str:
    """What a file that is none of these seems to be, for a message."""
    for offset, signature, name in _OTHERS:
        if data.startswith(signature, offset):
            return f"it looks like {name}"
    head = data[:32].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it looks like a web page"
    if head.startswith((b"<svg", b"<?xml")):
        return "it looks like SVG or XML"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in data[:32]):
        return f"it looks like text, beginning {data[:32].decode('utf-8', 'replace')!r}"
    return f"it begins with the bytes {data[:12].hex(' ')}"
