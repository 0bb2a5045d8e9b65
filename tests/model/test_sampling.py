"""Choices from given random numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uniface_ray.model.sampling import gumbel, keep_likely, least, pick


def test_codes_come_as_often_as_they_are_likely() -> None:
    probability = torch.tensor([0.4, 0.0, 0.05, 0.05, 0.1, 0.2, 0.2, 0.0])
    uniform = torch.rand(1, 40_000, 3, generator=torch.Generator().manual_seed(0))
    codes = pick(probability.expand(1, 40_000, 8), uniform)
    often = torch.bincount(codes[0], minlength=8) / 40_000
    torch.testing.assert_close(often, probability, atol=0.01, rtol=0)
    assert (often[probability == 0] == 0).all()


@settings(deadline=None)
@given(code=st.integers(0, 15), scale=st.floats(1e-30, 1e30), seed=st.integers(0, 99))
def test_the_only_possible_code_is_drawn_whatever_the_numbers(code: int, scale: float, seed: int) -> None:
    probability = torch.zeros(1, 3, 16)
    probability[..., code] = scale
    uniform = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(seed))
    uniform[0, 0], uniform[0, 1] = 0.0, 1 - 2**-24  # the ends of what torch.rand gives
    assert (pick(probability, uniform) == code).all()


def test_unlikely_codes_are_kept_out() -> None:
    logits = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log().expand(5, 1, 5)
    top_k = torch.tensor([5, 2, 1, 5, 2])
    top_p = torch.tensor([2.0, 2.0, 2.0, 0.6, 0.1])
    left = keep_likely(logits, top_k, top_p)[:, 0].isfinite()
    assert left.sum(1).tolist() == [5, 2, 1, 2, 1]
    assert left[:, 0].all()


def test_they_are_kept_out_wherever_they_stand() -> None:
    logits = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    left = keep_likely(logits, torch.tensor([3, 16]), torch.tensor([2.0, 2.0]))
    likeliest = logits[0].topk(3).indices
    expected = torch.zeros(4, 16, dtype=torch.bool).scatter(-1, likeliest, True)
    assert torch.equal(left[0].isfinite(), expected)
    assert torch.equal(left[1], logits[1])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 12))
def test_just_so_many_are_least_even_among_equals(values: list[int], count: int) -> None:
    confidence = torch.tensor([values], dtype=torch.float32)
    marked = least(confidence, torch.tensor([count]))[0]
    assert marked.sum() == min(count, len(values))
    assert not marked.any() or marked.all() or confidence[0][marked].max() <= confidence[0][~marked].min()


def test_gumbel_noise() -> None:
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    noise = gumbel(uniform)
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(1.6449, abs=0.05)
    assert gumbel(torch.tensor([0.0, 1 - 2**-24, 1.0])).isfinite().all()
