"""Memorising shows: copies of training pictures are near, new ones are as far as any others."""

import numpy as np
import pytest

from benchmarks.nearest import nearest, nearness


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def test_each_row_finds_the_one_it_was_made_of() -> None:
    known = rows(700, 0)
    order = np.random.default_rng(1).permutation(700)
    indices, distances = nearest(known[order] + 0.01, known)
    assert (indices == order).all()
    np.testing.assert_allclose(distances, 0.01 * 4, rtol=1e-3)


def test_distances_are_those_of_a_plain_loop() -> None:
    queries, known = rows(300, 2), rows(50, 3)
    plain = np.linalg.norm(queries[:, None] - known[None], axis=-1)
    indices, distances = nearest(queries, known)
    assert (indices == plain.argmin(1)).all()
    np.testing.assert_allclose(distances, plain.min(1), rtol=1e-5)


def test_a_model_that_repeats_is_told_from_one_that_draws_anew() -> None:
    known = rows(500, 4)
    unseen = nearest(rows(400, 5), known)[1]
    anew = nearness(nearest(rows(400, 6), known)[1], unseen)
    repeats = nearness(nearest(known[:400] + 0.1, known)[1], unseen)
    assert anew.nearer < 0.05
    assert repeats.nearer == 1.0
    assert repeats.made[2] < repeats.unseen[0]
    assert anew.made[1] == pytest.approx(anew.unseen[1], rel=0.1)


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(ValueError, match=r"\(0, 16\)"):
        nearest(rows(2, 0), rows(0, 0))
    with pytest.raises(ValueError, match="0 made"):
        nearness(np.zeros(0), np.ones(3))
