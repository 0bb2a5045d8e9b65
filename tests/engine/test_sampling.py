"""Tokens are chosen by their probabilities, and each row by its own numbers."""

import pytest
import torch

from uniface_ray.engine.sampling import choose, uniforms


def rows(count: int, **values: float) -> list[torch.Tensor]:
    return [torch.full((count,), value) for value in values.values()]


def test_temperature_0_takes_the_most_likely() -> None:
    logits = torch.randn(5, 40)
    assert torch.equal(choose(logits, *rows(5, temperature=0, top_p=1), torch.rand(5)), logits.argmax(-1))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.6)])
def test_drawn_tokens_follow_the_distribution(temperature: float, top_p: float) -> None:
    logits = torch.tensor([0.3, 2.0, -1.0, 1.2])
    probability = (logits / temperature).softmax(-1)
    order = probability.argsort(descending=True)
    kept = order[: int((probability[order].cumsum(0) < top_p).sum()) + 1] if top_p < 1 else order
    expected = torch.zeros(4).index_copy(0, kept, probability[kept] / probability[kept].sum())
    count = 20_000
    uniform = (torch.arange(count) + 0.5) / count  # evenly spread: no luck in it
    tokens = choose(logits.expand(count, -1), *rows(count, temperature=temperature, top_p=top_p), uniform)
    torch.testing.assert_close(tokens.bincount(minlength=4) / count, expected, atol=2e-4, rtol=0)


def test_the_largest_random_number_stays_among_the_kept_tokens() -> None:
    logits = torch.randn(64, 1000)
    almost_one = torch.full((64,), 1 - 2**-24)
    tokens = choose(logits, *rows(64, temperature=1, top_p=1e-6), almost_one)
    assert torch.equal(tokens, logits.argmax(-1))


def test_a_row_is_chosen_alone_whatever_stands_beside_it() -> None:
    logits, uniform = torch.randn(6, 50), torch.rand(6)
    temperature = torch.tensor([0, 1, 0.7, 0, 2, 1])
    top_p = torch.tensor([1, 0.9, 1, 0.5, 0.3, 1])
    together = choose(logits, temperature, top_p, uniform)
    alone = [choose(*(values[i : i + 1] for values in (logits, temperature, top_p, uniform))) for i in range(6)]
    assert torch.equal(together, torch.cat(alone))


def test_random_numbers_depend_on_the_seed_only() -> None:
    assert torch.equal(uniforms(7, 20), uniforms(7, 20))
    assert not torch.equal(uniforms(7, 20), uniforms(8, 20))
    assert uniforms(2**63 - 1, 3).shape == (3,)
