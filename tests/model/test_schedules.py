"""Schedules, and masking by exact count."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceConfig
from uniface_ray.model.corruption import IGNORED, corrupt
from uniface_ray.model.schedules import schedule

NAMES = ["cosine", "linear", "log-linear", "sigmoid", "pow2", "pow0.5", "pow3.5"]


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_falls_from_all_to_nothing(name: str) -> None:
    share = schedule(name).share(torch.linspace(0, 1, 101))
    assert (share.diff() < 0).all()
    torch.testing.assert_close(share[[0, -1]], torch.tensor([1.0, 0.0]), atol=1.1e-3, rtol=0)


@settings(deadline=None)
@given(name=st.sampled_from(NAMES), u=st.floats(0.01, 0.99))
def test_speed_is_the_derivative_of_share(name: str, u: float) -> None:
    progress = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    share = schedule(name).share(progress)
    share.backward()
    torch.testing.assert_close(schedule(name).speed(share.detach()), -progress.grad, rtol=1e-9, atol=1e-9)


def test_show_os_schedules() -> None:
    u = torch.tensor([0.25, 0.5])
    torch.testing.assert_close(schedule("cosine").share(u), torch.tensor([math.cos(math.pi / 8), math.sqrt(0.5)]))
    torch.testing.assert_close(schedule("linear").share(u), torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(schedule("pow3").share(u), torch.tensor([1 - 0.25**3, 0.875]))
    end = torch.sigmoid(torch.tensor(3.0))
    expected = (end - torch.sigmoid(torch.tensor([-1.5, 0.0]))) / (2 * end - 1)
    torch.testing.assert_close(schedule("sigmoid").share(u), expected)


@pytest.mark.parametrize("name", ["cosin", "", "pow", "pow-1", "pow0", "log_linear"])
def test_an_unknown_schedule_is_named_with_the_choices(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}'.*cosine, linear, log-linear, sigmoid, pow<k>"):
        schedule(name)


@settings(deadline=None)
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5), name=st.sampled_from(NAMES))
def test_masks_are_exact_and_labelled(config: UniFaceConfig, seeds: list[int], name: str) -> None:
    codes = torch.arange(16 * len(seeds)).reshape(len(seeds), 16) % config.codebook_size
    image_ids, labels, share = corrupt(config, codes, name, seeds)
    masked = image_ids == config.mask_token_id
    assert torch.equal(masked.sum(1), (share * 16).round().long())
    assert (masked.sum(1) >= 1).all()
    assert torch.equal(labels[masked], codes[masked])
    assert (labels[~masked] == IGNORED).all()
    assert torch.equal(image_ids[~masked], codes[~masked] + config.image_token_offset)


def test_what_is_masked_depends_on_the_images_own_seed(config: UniFaceConfig) -> None:
    codes = torch.zeros(4, 16, dtype=torch.int64)
    together = corrupt(config, codes, "cosine", [5, 6, 7, 5])
    alone = corrupt(config, codes[:1], "cosine", [6])
    assert torch.equal(together.image_ids[1], alone.image_ids[0])
    assert torch.equal(together.labels[0], together.labels[3])
    assert not torch.equal(together.labels[0], together.labels[2])


def test_every_position_and_every_count_gets_its_turn(config: UniFaceConfig) -> None:
    image_ids, _, share = corrupt(config, torch.zeros(2000, 16, dtype=torch.int64), "linear", range(2000))
    assert set((share * 16).round().int().tolist()) == set(range(1, 17))
    often = (image_ids == config.mask_token_id).float().mean(0)
    torch.testing.assert_close(often, torch.full((16,), 0.5), atol=0.06, rtol=0)


def test_seeds_for_other_images_are_refused(config: UniFaceConfig) -> None:
    with pytest.raises(ValueError, match="2 seeds for 1 images"):
        corrupt(config, torch.zeros(1, 16, dtype=torch.int64), "cosine", [1, 2])
