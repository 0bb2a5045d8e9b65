"""Intervals against published values, and what streaming must not change."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniface_ray.evaluate.intervals import Resampled, jackknife, poisson_weights, share, uniform, wilson


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    assert all(math.isnan(bound) for bound in wilson(0, 0))


@given(st.integers(1, 10_000), st.data())
def test_wilson_is_symmetric_and_holds_the_share(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = wilson(hits, trials)
    assert low - 1e-12 <= hits / trials <= high + 1e-12
    assert wilson(trials - hits, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert share(hits, trials).value == hits / trials


def test_weights_are_poisson_and_of_their_key_alone() -> None:
    keys = np.random.default_rng(0).integers(0, 2**63 - 1, 3000)
    weights = poisson_weights(keys, 200, seed=7)
    for count in range(4):
        expected = math.exp(-1) / math.factorial(count)
        assert (weights == count).mean() == pytest.approx(expected, abs=0.003)
    # Neither rows nor samples know of each other.
    assert abs(np.corrcoef(weights[:, :20].T) - np.eye(20)).max() < 0.1
    assert abs(np.corrcoef(weights[:20]) - np.eye(20)).max() < 0.35
    assert (poisson_weights(keys[::-1], 200, seed=7)[::-1] == weights).all()
    assert (poisson_weights(keys, 200, seed=8) != weights).mean() > 0.5


def test_the_mean_has_the_interval_of_the_textbook() -> None:
    draw = np.random.default_rng(1)
    values = draw.normal(3.0, 2.0, 4000)
    sums = Resampled(("value", "one"), resamples=2000)
    sums.add(np.arange(4000), np.stack([values, np.ones(4000)], axis=1))
    found = sums.mean("value", "one", 4000)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / math.sqrt(4000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_rows_that_belong_together_count_as_one() -> None:
    keys = np.repeat(np.arange(100), 50)  # fifty equal answers of each of a hundred
    values = np.repeat(np.random.default_rng(2).random(100), 50)
    together = Resampled(("value", "one"))
    together.add(keys, np.stack([values, np.ones(5000)], axis=1))
    alone = Resampled(("value", "one"))
    alone.add(np.arange(5000), np.stack([values, np.ones(5000)], axis=1))
    widths = [one.mean("value", "one", 5000).high - one.mean("value", "one", 5000).low for one in (together, alone)]
    assert widths[0] == pytest.approx(math.sqrt(50) * widths[1], rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=60, unique=True), st.data())
def test_neither_order_nor_chunks_change_a_sum(keys: list[int], data: st.DataObject) -> None:
    ids = np.array(keys)
    values = np.random.default_rng(len(keys)).random((len(keys), 2))
    whole, parts, second = (Resampled(("a", "b"), resamples=50, seed=3) for _ in range(3))
    whole.add(ids, values)
    order = data.draw(st.permutations(range(len(keys))))
    cut = data.draw(st.integers(0, len(keys)))
    parts.add(ids[order[:cut]], values[order[:cut]])
    second.add(ids[order[cut:]], values[order[cut:]])
    parts.merge(second)
    assert parts.rows == whole.rows
    np.testing.assert_allclose(parts.sums, whole.sums)
    np.testing.assert_allclose(parts.samples, whole.samples)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    draw = np.random.default_rng(3)
    values = draw.normal(0, 1, 1000)
    group = (uniform(np.arange(1000), seed=0) * 100).astype(int)
    found = jackknife(values.mean(), [values[group != g].mean() for g in range(100)], 1000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / math.sqrt(1000), rel=0.25)


def test_nothing_known_is_no_number() -> None:
    sums = Resampled(("value", "one"), resamples=10)
    assert math.isnan(sums.mean("value", "one", 0).value)
    assert math.isnan(share(0, 0).low)
