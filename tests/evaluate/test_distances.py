"""Distances against closed forms, and what streaming must not change."""

import math

import numpy as np
import pytest

from uniface_ray.evaluate.distances import (
    Cloud,
    Moments,
    frechet,
    frechet_distance,
    kernel,
    kernel_distance,
    least_images,
)


def _exact(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(1001, mean, covariance * 1000)


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    # Covariances that commute: |m|^2 + sum of (s1 - s2)^2.
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    one, other = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 4, 3, 2, 0])
    mean = np.arange(5.0)
    found = frechet_distance(_exact(mean, turn * one**2 @ turn.T), _exact(np.zeros(5), turn * other**2 @ turn.T))
    assert found == pytest.approx(mean @ mean + ((one - other) ** 2).sum())
    # Two by two, not commuting: tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2)).
    first, second = np.array([[2.0, 1], [1, 3]]), np.array([[4.0, -1], [-1, 1]])
    root = math.sqrt(np.trace(first @ second) + 2 * math.sqrt(np.linalg.det(first) * np.linalg.det(second)))
    found = frechet_distance(_exact(np.zeros(2), first), _exact(np.zeros(2), second))
    assert found == pytest.approx(np.trace(first + second) - 2 * root)
    assert frechet_distance(_exact(mean, np.diag(one)), _exact(mean, np.diag(one))) == pytest.approx(0, abs=1e-9)


def test_a_flat_covariance_has_a_distance_too() -> None:
    features = np.random.default_rng(1).normal(size=(6, 20))  # of rank 5
    one, other = Moments.of(features), Moments.of(features + 1)
    assert frechet_distance(one, other) == pytest.approx(20)
    with pytest.raises(ValueError, match="needs 2 images or more, and there are 1 and 6"):
        frechet_distance(Moments.of(features[:1]), one)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_of_chunks_merge_to_those_of_the_whole(offset: float) -> None:
    features = np.random.default_rng(2).normal(size=(301, 7)) * np.arange(1, 8) + offset
    merged = Moments.of(features[:0])
    for cut in np.split(features, [1, 2, 100, 100, 290]):
        merged = merged.merge(Moments.of(cut))
    assert merged.count == 301
    np.testing.assert_allclose(merged.mean, features.mean(0))
    np.testing.assert_allclose(merged.covariance, np.cov(features.T), rtol=1e-7, atol=1e-9)


def test_kernel_distance_is_unbiased() -> None:
    draw = np.random.default_rng(3)
    # Of equal laws its mean is 0: two images a side are enough for that, and biased estimates would show.
    same = [kernel_distance(draw.normal(size=(4, 3)), draw.normal(size=(4, 3))) for _ in range(4000)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(4000)
    assert min(same) < 0
    # Of points: with x = a, y = b alone it is k(a, a) + k(b, b) - 2 k(a, b).
    a, b = np.array([1.0, 2.0]), np.array([0.0, -1.0])
    expected = (5 / 2 + 1) ** 3 + (1 / 2 + 1) ** 3 - 2 * (-2 / 2 + 1) ** 3
    assert kernel_distance(np.tile(a, (3, 1)), np.tile(b, (2, 1))) == pytest.approx(expected)
    with pytest.raises(ValueError, match="needs 2 images or more, and there are 1 and 2"):
        kernel_distance(np.tile(a, (1, 1)), np.tile(b, (2, 1)))


def test_kernel_distance_by_hand() -> None:
    one, other = np.random.default_rng(4).normal(size=(2, 6, 3))

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    within = np.mean([k(one[i], one[j]) for i, j in pairs]) + np.mean([k(other[i], other[j]) for i, j in pairs])
    between = np.mean([k(x, y) for x in one for y in other])
    assert kernel_distance(one, other) == pytest.approx(within - 2 * between)


def test_a_cloud_does_not_know_order_or_chunks() -> None:
    draw = np.random.default_rng(5)
    features, keys = draw.normal(size=(400, 4)), draw.integers(0, 2**62, 400)
    whole, parts, second = Cloud(100), Cloud(100), Cloud(100)
    whole.add(keys, features)
    order = draw.permutation(400)
    parts.add(keys[order[:10]], features[order[:10]])
    parts.add(keys[order[10:150]], features[order[10:150]])
    second.add(keys[order[150:]], features[order[150:]])
    parts.merge(second)
    assert parts.count == whole.count == 400
    np.testing.assert_allclose(parts.moments().covariance, np.cov(features.T))
    np.testing.assert_allclose(parts.moments(3).mean, whole.moments(3).mean)
    np.testing.assert_array_equal(parts.sample(), whole.sample())
    assert len(whole.sample()) == 100
    sizes = whole.sizes(sampled=True)
    assert sizes.sum() == 100
    assert [len(whole.sample(group)) for group in range(10)] == [100 - size for size in sizes]


def test_intervals_hold_the_truth() -> None:
    # Of N(0, 1) and N(1, 1) in 3 dimensions the Fréchet distance is 3, but for a bias of 2.5 D / N or so.
    draw = np.random.default_rng(6)
    clouds = Cloud(most=1000), Cloud(most=1000)
    for cloud, mean in zip(clouds, (0.0, 1.0), strict=True):
        cloud.add(draw.integers(0, 2**62, 4000), draw.normal(mean, 1, size=(4000, 3)))
    found = frechet(*clouds)
    assert found.low < 3 < found.high
    assert found.high - found.low < 0.6
    # E k(x, x') = E (u + 1)^3, u = x.x' / 3: 1 + 3 E u^2 = 2 around 0. Checked against a sample of its own.
    far = kernel(*clouds)
    again = kernel_distance(draw.normal(0, 1, size=(2000, 3)), draw.normal(1, 1, size=(2000, 3)))
    assert far.low - 1 < again < far.high + 1
    assert far.low > 0


def test_images_of_one_prompt_are_left_out_together() -> None:
    keys = np.repeat(np.random.default_rng(7).integers(0, 2**62, 40), 10)
    cloud = Cloud(most=300)
    cloud.add(keys, keys.astype(np.float32)[:, None])
    for group in range(10):
        left, gone = {*cloud.sample(group)[:, 0]}, {*cloud.sample()[:, 0]} - {*cloud.sample(group)[:, 0]}
        assert len(cloud.sample()) - len(cloud.sample(group)) == 10 * len(gone), group
        assert len(left) + len(gone) == 30


@pytest.mark.parametrize("prompts", [1, 2, 4])
def test_few_prompts_have_distances_and_an_interval_where_there_are_groups_to_leave_out(prompts: int) -> None:
    draw = np.random.default_rng(8)
    drawn, real = Cloud(), Cloud()
    drawn.add(np.arange(200) % prompts, draw.normal(size=(200, 3)))
    real.add(np.arange(400), draw.normal(size=(400, 3)))
    for found in (frechet(drawn, real), kernel(drawn, real)):
        assert math.isfinite(found.value)
        assert found.method == ("none" if prompts == 1 else "jackknife")
        assert math.isnan(found.low) if prompts == 1 else found.low < found.value < found.high


def test_a_group_without_which_a_covariance_lacks_rank_is_not_left_out() -> None:
    draw = np.random.default_rng(9)
    drawn, real = Cloud(), Cloud()
    drawn.add(np.array([0] * 58 + [1, 3]), draw.normal(size=(60, 10)))
    real.add(np.arange(400), draw.normal(size=(400, 10)))
    assert frechet(drawn, real).method == "none"
    assert kernel(drawn, real).method == "jackknife"


def test_how_many_images_a_covariance_needs() -> None:
    for width in (1, 96, 768):
        assert least_images(width) * 9 // 10 > width
