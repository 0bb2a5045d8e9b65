"""Pixels to the model's range, and back."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import from_model_range, to_model_range


def test_the_models_range_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_model_range(to_model_range(pixels)), pixels)
    assert (to_model_range(pixels).min(), to_model_range(pixels).max()) == (-1, 1)


class NoIntegerProducts(TorchDispatchMode):
    """CUDA has no products of integer matrices: a CPU that computes them hides it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # nor has torch's
        if "mm" in str(func) and not args[0].is_floating_point():
            raise AssertionError(f"{func} of integers")
        return func(*args, **(kwargs or {}))


def test_image_codes_need_no_integer_products(model: UniFaceForConditionalGeneration) -> None:
    with NoIntegerProducts():
        codes = model.encode_images(torch.rand(2, 3, 16, 16) * 2 - 1)
        model.decode_images(codes)
