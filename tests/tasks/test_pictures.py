"""Drawn images as files, and what they say of themselves."""

import hashlib
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.pictures import picture
from uniface_ray.core.version import __version__
from uniface_ray.tasks.pictures import DRAWN, EDITED, encode_picture, provenance

PIXELS = np.asarray(picture(0, (48, 48))).transpose(2, 0, 1)


@pytest.mark.parametrize(("kind", "source_type"), [("png", DRAWN), ("jpeg", EDITED)])
def test_an_image_says_how_it_came_to_be(kind: str, source_type: str) -> None:
    facts = provenance('a "model" & co', "a woman <b>", 2**63 - 1, {"steps": 18, "guidance": 5.0})
    image = Image.open(io.BytesIO(encode_picture(PIXELS, kind, facts, source_type)))
    assert image.format == kind.upper()
    (described,) = ElementTree.fromstring(image.info["xmp"]).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    told = {name.rpartition("}")[2]: value for name, value in described.attrib.items()}
    assert told["DigitalSourceType"] == source_type
    assert told["synthetic"] == "true"
    assert told["model"] == 'a "model" & co'
    assert told["prompt_sha256"] == hashlib.sha256(b"a woman <b>").hexdigest()
    assert (told["seed"], told["steps"], told["guidance"]) == (str(2**63 - 1), "18", "5.0")
    assert told["CreatorTool"] == f"uniface_ray {__version__}"
    if kind == "png":
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), PIXELS)
        assert {name: image.text[name] for name in facts} == facts
    else:
        assert np.abs(np.asarray(image).transpose(2, 0, 1).astype(int) - PIXELS).mean() < 3


def test_the_prompt_itself_stays_out() -> None:
    facts = provenance("tiny", "very private words", 1, {})
    assert all(b"private" not in encode_picture(PIXELS, kind, facts) for kind in ("png", "jpeg"))
