"""Faces drawn and pictures edited, with the official client."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image

import uniface_ray
from tests.pictures import encoded, picture

PICTURE = picture(0, (32, 32))
FACE = encoded(PICTURE, "PNG")
FAST: dict[str, Any] = {"extra_body": {"steps": 4, "seed": 7, "guidance": 2.0}}


def pixels(image: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.b64_json))))


def upper_half(kind: str) -> bytes:
    """A mask of the upper half: white on black, or a transparent hole in the picture itself."""
    if kind == "white":
        mask = Image.new("L", (32, 32))
        mask.paste(255, (0, 0, 32, 16))
        return encoded(mask, "PNG")
    hole = PICTURE.convert("RGBA")
    hole.paste((255, 255, 255, 0), (0, 0, 32, 16))
    return encoded(hole, "PNG")


def test_an_online_image_is_that_of_a_batch(client: openai.OpenAI, folder: Path) -> None:
    batch = {"model__path": folder, "model__name": "random", "task__steps": 4, "task__guidance": 2, "run__seed": 3}
    ((drawn,),) = uniface_ray.generate("a woman", engine__threads=1, **batch)
    same = {"extra_body": {"steps": 4, "guidance": 2.0, "seed": int(drawn.text["seed"])}}
    answer = client.images.generate(model="random", prompt="a woman", **same)
    (image,) = answer.data
    assert np.array_equal(pixels(image), np.asarray(drawn))
    assert Image.open(io.BytesIO(base64.b64decode(image.b64_json))).text == drawn.text
    assert (answer.size, answer.output_format, image.revised_prompt) == ("32x32", "png", "a woman")
    assert answer.usage.output_tokens == 64


def test_several_images_have_seeds_of_their_own(client: openai.OpenAI) -> None:
    three = client.images.generate(model="random", prompt="a man", n=3, size="auto", **FAST)
    one = client.images.generate(model="random", prompt="a man", size="32x32", **FAST)
    assert np.array_equal(pixels(three.data[0]), pixels(one.data[0]))
    assert len({pixels(image).tobytes() for image in three.data}) == 3


def test_a_face_appears_step_by_step(client: openai.OpenAI) -> None:
    events = list(client.images.generate(model="random", prompt="a man", stream=True, partial_images=2, **FAST))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    whole = client.images.generate(model="random", prompt="a man", **FAST)
    assert np.array_equal(pixels(events[-1]), pixels(whole.data[0]))
    assert events[-1].usage.output_tokens == 64
    many = list(client.images.generate(model="random", prompt="a man", stream=True, n=2, **FAST))
    assert [event.type for event in many] == ["image_generation.completed"] * 2


@pytest.mark.parametrize("kind", ["white", "hole"])
def test_an_edit_draws_where_the_mask_says(client: openai.OpenAI, folder: Path, kind: str) -> None:
    answer = client.images.edit(
        model="random", image=("a.png", FACE), mask=("m.png", upper_half(kind)), prompt="a hat", **FAST
    )
    edited = pixels(answer.data[0])
    assert np.array_equal(edited[16:], np.asarray(PICTURE)[16:])
    assert not np.array_equal(edited[:16], np.asarray(PICTURE)[:16])
    boxed = {"extra_body": FAST["extra_body"] | {"box": "[0,0,1,0.5]"}}
    same = client.images.edit(model="random", image=("a.png", FACE), prompt="a hat", **boxed)
    assert np.array_equal(pixels(same.data[0]), edited)


def test_an_edit_as_json_is_that_of_the_form(client: openai.OpenAI, address: str) -> None:
    mask = ("m.png", upper_half("hole"))
    expected = client.images.edit(model="random", image=("a.png", FACE), mask=mask, prompt="a hat", **FAST)
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (FACE, upper_half("hole"))]
    body = {"images": [{"image_url": urls[0]}], "mask": {"image_url": urls[1]}, "prompt": "a hat", **FAST["extra_body"]}
    found = httpx2.post(f"{address}/v1/images/edits", json=body, timeout=60)
    assert found.json()["data"] == [one.to_dict() for one in expected.data or []]
    for change, code in [
        ({"mask": None}, "mask_required"),
        ({"mask": {"image_url": "file:///etc/passwd"}}, "invalid_image_url"),
        ({"images": []}, "invalid_value"),
        ({"surprise": 1}, "unknown_parameter"),
    ]:
        refused = httpx2.post(f"{address}/v1/images/edits", json=body | change, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
    broken = httpx2.post(f"{address}/v1/images/edits", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.json()["error"]["code"] == "invalid_json"


def test_an_edit_streams_too(client: openai.OpenAI) -> None:
    form: dict[str, Any] = {"image": ("a.png", FACE), "mask": ("m.png", upper_half("white")), "prompt": "a hat"}
    events = list(client.images.edit(model="random", stream=True, partial_images=1, **form, **FAST))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    for event in events:
        assert np.array_equal(pixels(event)[16:], np.asarray(PICTURE)[16:])


def test_a_prompt_that_is_cut_is_told(client: openai.OpenAI) -> None:
    long = "a young woman with dark hair " * 9
    seen = client.images.generate(model="random", prompt=long, **FAST).data[0].revised_prompt
    assert seen
    assert long.startswith(seen)
    assert len(seen) < len(long.strip())


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"model": "other"}, 404, {"param": "model"}),
        ({"prompt": ""}, 400, {"param": "prompt"}),
        ({"n": 0}, 400, {"param": "n"}),
        ({"size": "1024x1024"}, 400, {"param": "size", "code": "invalid_size"}),
        ({"response_format": "url"}, 400, {"param": "response_format"}),
        ({"background": "transparent"}, 400, {"param": "background"}),
        ({"extra_body": {"steps": 0}}, 400, {"param": "steps"}),
        ({"extra_body": {"schedule": "pow0"}}, 400, {"param": "schedule"}),
        ({"extra_body": {"guidance": "much"}}, 400, {"param": "guidance"}),
    ],
)
def test_mistakes_in_what_to_draw(
    client: openai.OpenAI, change: dict[str, Any], status: int, error: dict[str, str]
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            client.images.generate(**{"model": "random", "prompt": "a man", "stream": stream, **change})
        assert caught.value.status_code == status
        assert isinstance(caught.value.body, dict)
        assert error.items() <= caught.value.body.items()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mask": openai.omit}, {"param": "mask", "code": "mask_required"}),
        ({"mask": ("m.png", encoded(picture(0, (16, 16)), "PNG"))}, {"param": "mask", "code": "bad_request"}),
        ({"mask": ("m.png", encoded(Image.new("L", (32, 32)), "PNG"))}, {"param": "mask", "code": "bad_request"}),
        ({"image": ("a.png", b"no picture")}, {"param": "image", "code": "unsupported_format"}),
        ({"image": [("a.png", FACE), ("b.png", FACE)]}, {"param": "image", "code": "invalid_image"}),
        ({"mask": openai.omit, "extra_body": {"box": "[0,0,0,1]"}}, {"param": "box"}),
        ({"mask": openai.omit, "extra_body": {"box": "all"}}, {"param": "box"}),
    ],
)
def test_mistakes_in_what_to_edit(client: openai.OpenAI, change: dict[str, Any], error: dict[str, str]) -> None:
    form = {"image": ("a.png", FACE), "mask": ("m.png", upper_half("white")), "prompt": "a hat", **change}
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="random", **form)
    assert isinstance(caught.value.body, dict)
    assert error.items() <= caught.value.body.items()
