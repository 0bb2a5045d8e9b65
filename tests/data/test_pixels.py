"""Pictures and masks of any shape to the model's square."""

import numpy as np
import pytest
from PIL import Image

from uniface_ray.core.errors import UserError
from uniface_ray.data.pixels import fit_mask, fit_square


def test_the_shorter_side_is_resized_and_the_centre_kept() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 20:80] = 200  # just the square in the middle
    assert fit_square(picture, 30).shape == (3, 30, 30)
    assert fit_square(picture, 30)[:, :, 2:-2].min() >= 199


def test_it_resizes_as_pillow_does() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((300, 300), Image.Resampling.BICUBIC)
    expected = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(fit_square(np.asarray(picture), 64).astype(int) - expected)
    assert difference.max() <= 1


@pytest.mark.parametrize("shape", [(1, 4_000_000), (4_000_000, 1), (2, 900_000), (1, 1), (3, 500)])
def test_no_shape_costs_more_than_its_square_is_worth(shape: tuple[int, int]) -> None:
    assert fit_square(np.full((*shape, 3), 7, np.uint8), 64).shape == (3, 64, 64)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(fit_square(picture, 64), picture.transpose(2, 0, 1))


def test_a_mask_goes_where_its_picture_goes() -> None:
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[10:30, 45:65] = 255
    kinds = [picture[..., 0], picture, picture[..., 0] > 0, picture[..., 0] / 255.0]
    expected = fit_square(picture, 16)[0] >= 128
    assert expected.any()
    for mask in kinds:
        assert np.array_equal(fit_mask(mask, (40, 100), 16), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((40, 99), bool), "mask is 40 x 99 .*picture is 40 x 100"),
        (np.zeros(40, bool), "mask is 40 .*picture is 40 x 100"),
        (np.zeros((40, 100), np.int64), "int64: give booleans, uint8 0..255 or floats"),
    ],
)
def test_masks_that_do_not_fit_are_named(wrong: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_mask(wrong, (40, 100), 16)
