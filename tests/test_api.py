"""The commands as Python calls, on a random model."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

import uniface_ray
from tests.pictures import encoded, picture
from tests.tiny import save_random_model
from uniface_ray.core.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"model__path": save_random_model(tmp_path_factory.mktemp("model")), "engine__threads": 1}


def test_answers_by_picture_and_question(model: dict[str, Any]) -> None:
    ask = partial(uniface_ray.answer, task__max_new_tokens=3, **model)
    both = ask([picture(0), encoded(picture(1))], ["What's her mood, roughly?", "a=b"])
    assert [len(answers) for answers in both] == [2, 2]
    assert ask(np.asarray(picture(0)), "What's her mood, roughly?") == [both[0][:1]]


def test_faces_of_prompts(model: dict[str, Any]) -> None:
    draw = partial(uniface_ray.generate, task__steps=2, **model)
    ((first, second),) = draw("a woman", task__images_per_prompt=2)
    assert (first.size, first.text["synthetic"]) == ((32, 32), "true")
    assert first.text["seed"] != second.text["seed"]
    again = draw(["a woman", "a man"])
    assert np.array_equal(again[0][0], first)
    assert not np.array_equal(draw("a woman", run__seed=1)[0][0], first)


def test_edits_and_scores(model: dict[str, Any]) -> None:
    image = picture(0, (32, 32))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 32, 16))
    edit = partial(uniface_ray.edit, image, "a hat", task__steps=2, **model)
    (boxed,), (masked,) = edit(box=(0, 0, 1, 0.5)), edit(mask=encoded(mask, "PNG"))
    assert np.array_equal(boxed, masked)
    assert np.array_equal(np.asarray(boxed)[16:], np.asarray(image)[16:])
    assert not np.array_equal(np.asarray(boxed)[:16], np.asarray(image)[:16])
    ((smile, hat),) = uniface_ray.score(image, ["a smile", "a hat"], **model)
    assert 0 < min(smile, hat) <= max(smile, hat) < 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda **model: uniface_ray.caption(b"no image", **model), r"images\[0\] cannot be read: not an image"),
        (
            lambda **model: uniface_ray.caption(np.zeros((8, 8)), **model),
            r"images\[0\] .*an array float64 \(8, 8\): give",
        ),
        (lambda **model: uniface_ray.caption([None], **model), r"images\[0\] cannot be read: expected str"),
        (lambda **model: uniface_ray.edit(picture(), "x", **model), "either box"),
        (lambda **model: uniface_ray.edit(picture(), "x", box=(0, 0, 0, 1), **model), r"images\[0\] .* box is"),
        (lambda **model: uniface_ray.generate("x", task__steps=0, **model), "task.steps=0: must be greater"),
        (
            lambda **model: uniface_ray.generate("x", task__schedule="fast", **model),
            "task.schedule=fast: must be cosine",
        ),
    ],
)
def test_mistakes_are_told(call: Any, told: str, model: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=told):
        call(**model)
