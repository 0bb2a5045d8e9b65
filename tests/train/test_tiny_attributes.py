"""Estimates become attributes where they are sure, and pixels of plain drawn faces are read right."""

import numpy as np
import pytest
from numpy.typing import NDArray

from uniface_ray.train.tiny.appearance import Appearance, read_appearance
from uniface_ray.train.tiny.attributes import VALUES, Attributes, age_group, decide, gender, smile
from uniface_ray.train.tiny.faces import EXPRESSIONS, Estimates
from uniface_ray.train.tiny.regions import HAIR, SKIN, find_regions, to_lab

FAIR, SHADE = (235, 190, 165), (110, 75, 60)
GREEN, WHITE, BLACK_COAT = (70, 120, 50), (240, 240, 240), (25, 25, 30)


def draw(hair: tuple[int, int, int], behind: tuple[int, int, int] = GREEN, shaded: bool = False) -> NDArray[np.uint8]:
    """A face of three ellipses and a coat, 128 px, with a little noise; `shaded` puts its right half in shadow."""
    y, x = np.mgrid[0:128, 0:128] / 128.0
    picture = np.empty((128, 128, 3))
    picture[:] = behind
    picture[np.hypot((x - 0.5) / 0.36, (y - 0.42) / 0.38) < 1] = hair
    skin = np.hypot((x - 0.5) / 0.23, (y - 0.58) / 0.34) < 1
    picture[skin] = FAIR
    if shaded:
        picture[skin & (x > 0.5)] = SHADE
    picture[y > 0.9] = BLACK_COAT
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def read(picture: NDArray[np.uint8]) -> Appearance:
    return next(iter(read_appearance(picture[None])))


@pytest.mark.parametrize(
    ("name", "color"),
    [("black", (25, 22, 22)), ("brown", (95, 65, 45)), ("blond", (205, 165, 105)), ("grey", (150, 146, 140))],
)
def test_hair_color_is_read_off_the_pixels(name: str, color: tuple[int, int, int]) -> None:
    assert read(draw(color)).hair_color == name


def test_a_blue_scarf_is_no_hair() -> None:
    assert read(draw((40, 60, 190))).hair_color is None


def test_background_light_and_skin_are_read() -> None:
    lit, shaded = read(draw((25, 22, 22))), read(draw((25, 22, 22), behind=WHITE, shaded=True))
    assert (lit.background, lit.lighting, lit.skin) == ("green", "even", "fair")
    assert (shaded.background, shaded.lighting) == ("light", "side")


def test_a_scalp_like_the_face_is_bald() -> None:
    appearance = read(draw(FAIR))
    assert appearance.bald is True
    assert appearance.hair_color is None


def test_regions_are_probabilities_at_their_places() -> None:
    parts = find_regions(draw((25, 22, 22))[None]).parts[0].reshape(64, 64, 4)
    assert np.allclose(parts.sum(-1), 1, atol=1e-4)
    assert parts[36, 32, SKIN] > 0.9
    assert parts[8, 32, HAIR] > 0.9


def test_lab_of_known_colors() -> None:
    # CIELAB of sRGB primaries under D65, to a digit.
    assert np.allclose(to_lab(np.array([255, 0, 0])), [53.2, 80.1, 67.2], atol=0.2)
    assert np.allclose(to_lab(np.array([255, 255, 255])), [100, 0, 0], atol=0.1)


def test_a_side_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        find_regions(np.zeros((1, 100, 100, 3), np.uint8))


def expressions(**known: float) -> dict[str, float]:
    return {name: known.get(name, 0.0) for name in EXPRESSIONS}


def test_borders_are_left_out() -> None:
    assert [gender(p) for p in (0.05, 0.5, 0.95)] == ["female", None, "male"]
    assert [age_group(years) for years in (5, 15, 25, 36, 45, 55, 70)] == [
        *("child", None, "young adult", None),
        *("middle-aged", None, "older"),
    ]
    assert smile(expressions(happy=0.95)) == "yes"
    assert smile(expressions(neutral=0.95)) == "no"
    assert smile(expressions(happy=0.5, neutral=0.5)) is None
    assert smile(expressions(disgusted=0.99)) is None


def test_grey_hair_and_bald_heads_belong_to_grown_men_and_the_older() -> None:
    estimates = {years: Estimates(years, 0.99, expressions(neutral=1.0)) for years in (8.0, 60.0)}
    assert decide(estimates[8.0], Appearance(hair_color="grey")).hair_color is None
    assert decide(estimates[60.0], Appearance(hair_color="grey")).hair_color == "grey"
    assert decide(estimates[8.0], Appearance(bald=True)).bald is None
    assert decide(estimates[60.0], Appearance(bald=True)).bald == "yes"


def test_classes_follow_the_values() -> None:
    for name, values in VALUES.items():
        for index, value in enumerate(values):
            assert Attributes(**{name: value}).class_index(name) == index
        assert Attributes().class_index(name) == -1
