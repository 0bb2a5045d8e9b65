"""Pictures of any shape to the model's square, and back."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import fit_square, from_model_range, to_model_range


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


def test_the_models_range_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_model_range(to_model_range(pixels)), pixels)
    assert (to_model_range(pixels).min(), to_model_range(pixels).max()) == (-1, 1)


class NoIntegerProducts(TorchDispatchMode):
    """CUDA has no products of integer matrices: a CPU that computes them hides it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "mm" in str(func) and not args[0].is_floating_point():
            raise AssertionError(f"{func} of integers")
        return func(*args, **(kwargs or {}))


def test_image_codes_need_no_integer_products(model: UniFaceForConditionalGeneration) -> None:
    with NoIntegerProducts():
        codes = model.encode_images(torch.rand(2, 3, 16, 16) * 2 - 1)
        model.decode_images(codes)
