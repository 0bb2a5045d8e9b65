"""Drawn images as files that say what they are."""

import hashlib
import io
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from uniface_ray.core.records import Pixels
from uniface_ray.core.version import __version__

_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# IPTC's terms for what a model made, and for what it made a part of.
DRAWN = _IPTC + "trainedAlgorithmicMedia"
EDITED = _IPTC + "compositeWithTrainedAlgorithmicMedia"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:uniface="urn:uniface-ray:provenance"
 {attributes}/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def provenance(model: str, prompt: str, seed: int, settings: dict[str, object]) -> dict[str, str]:
    """What an image's metadata say of how it came to be: of the prompt, its SHA-256 only."""
    return {
        "synthetic": "true",
        "model": model,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "seed": str(seed),
        **{name: str(value) for name, value in settings.items()},
        "software": f"uniface_ray {__version__}",
    }


def encode_picture(pixels: Pixels, kind: str, facts: dict[str, str], source_type: str = DRAWN) -> bytes:
    """uint8 (3, H, W) RGB -> a file.

    Args:
        pixels: of the image.
        kind: `png` or `jpeg`.
        facts: see `provenance`; they stand in an XMP packet, and in PNG as text as well.
        source_type: `DRAWN` or `EDITED`.
    """
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    if kind == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0, xmp=_xmp(facts, source_type).encode())
        return buffer.getvalue()
    text = PngInfo()
    for name, value in facts.items():
        text.add_text(name, value)
    text.add_itxt("XML:com.adobe.xmp", _xmp(facts, source_type))
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def encode_png(pixels: Pixels) -> bytes:
    """uint8 (3, H, W) RGB -> a PNG file that says nothing more."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _xmp(facts: dict[str, str], source_type: str) -> str:
    named = {
        "Iptc4xmpExt:DigitalSourceType": source_type,
        "xmp:CreatorTool": facts["software"],
        **{f"uniface:{name}": value for name, value in facts.items()},
    }
    return _XMP.format(attributes="\n ".join(f"{name}={quoteattr(value)}" for name, value in named.items()))


__all__ = ["DRAWN", "EDITED", "encode_picture", "encode_png", "provenance"]
