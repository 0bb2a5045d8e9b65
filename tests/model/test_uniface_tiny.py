"""The weights that ship with the package: what they weigh, and that they read faces."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import uniface_ray
from uniface_ray.evaluate.claims import read_claims
from uniface_ray.model import UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw

FOLDER = Path(uniface_ray.__file__).parent / "model" / "weights" / "uniface-tiny"
PORTRAITS = Path(uniface_ray.__file__).parent / "assets" / "portraits"


def test_it_is_small_and_says_whose_it_is() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25 * 2**20
    assert {"README.md", "LICENSE", "config.json", "tokenizer.json"} <= {file.name for file in FOLDER.iterdir()}
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        floats = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 (not a dict)
    assert floats - {"I64"} == {"BF16"}
    backbone = UniFaceForConditionalGeneration.from_pretrained(FOLDER).showo.model.layers
    assert sum(parameter.numel() for parameter in backbone.parameters()) <= 6_000_000


def test_codes_become_pictures_again() -> None:
    model = UniFaceForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()
    flat = torch.stack([torch.full((3, 128, 128), value) for value in (-0.8, 0.8)])
    dark, light = model.decode_images(model.encode_images(flat)).mean(dim=(1, 2, 3))
    assert model.encode_images(flat).shape == (2, 64)
    assert dark < -0.3
    assert light > 0.3


@pytest.fixture(scope="module")
def captions() -> dict[str, str]:
    paths = sorted(PORTRAITS.glob("*.jpg"))
    return dict(zip((path.stem for path in paths), uniface_ray.caption(paths), strict=True))


def test_captions_of_the_portraits_are_sentences(captions: dict[str, str]) -> None:
    for text in captions.values():
        assert text.endswith(".")
        assert 5 <= len(text.split()) <= 60
    assert len(set(captions.values())) > 5


def test_men_are_called_men(captions: dict[str, str]) -> None:
    men = [text for name, text in captions.items() if name.startswith(("barack-obama", "joe-biden"))]
    assert len(men) == 12
    assert [text for text in men if read_claims(text).gender != "male"] == []


def test_drawn_hair_is_as_light_as_its_prompt_says() -> None:
    model = UniFaceForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()
    processor = UniFaceProcessor.from_pretrained(FOLDER)
    settings = DrawSettings(steps=8, guidance=2.0)
    top = {}
    for color in ("black", "blond"):
        ids = processor.text_ids(f"a smiling young woman with {color} hair")
        pictures = model.decode_images(draw(model, [DrawRequest(ids, seed, settings) for seed in range(4)]))
        top[color] = float(pictures[:, :, 8:32, 40:88].mean())
    assert top["black"] < top["blond"]
