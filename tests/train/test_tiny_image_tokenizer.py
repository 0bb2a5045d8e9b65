"""Views stay pictures, codes harden, and the losses are zero where nothing is wrong."""

import pytest
import torch

from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.image_tokenizer import (
    AttributeHead,
    attribute_loss,
    picture_loss,
    soften,
    spread_loss,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_views_are_pictures_and_follow_their_seed() -> None:
    faces = torch.randint(256, (8, 3, 40, 40), generator=seeded(), dtype=torch.uint8)
    views = random_views(faces, 32, seeded(1))
    assert views.shape == (8, 3, 32, 32)
    assert views.abs().max() <= 1
    assert torch.equal(views, random_views(faces, 32, seeded(1)))
    assert not torch.equal(views, random_views(faces, 32, seeded(2)))


def test_a_view_of_no_strength_is_the_face() -> None:
    faces = torch.randint(256, (2, 3, 32, 32), generator=seeded(), dtype=torch.uint8)
    torch.testing.assert_close(random_views(faces, 32, seeded(), strength=0.0), faces / 127.5 - 1, atol=1e-4, rtol=0)


def test_codes_harden() -> None:
    latents = torch.randn(4, 12, 8, 8, generator=seeded(), requires_grad=True)
    assert torch.equal(soften(latents, 0.0, seeded()), torch.tanh(latents))
    hard = soften(latents, 1.0, seeded())
    torch.testing.assert_close(hard, torch.where(latents > 0, 1.0, -1.0))
    hard.sum().backward()
    assert latents.grad is not None
    assert (latents.grad > 0).all()


def test_spread_is_least_for_independent_unit_bits() -> None:
    free = torch.randn(64, 12, 8, 8, generator=seeded())
    assert spread_loss(free) < 0.02
    assert spread_loss(free + 1) > 0.9
    assert spread_loss(free[:, :1].expand(-1, 12, -1, -1)) > 5


def test_a_perfect_picture_costs_nothing() -> None:
    picture = torch.rand(2, 3, 32, 32, generator=seeded())
    assert picture_loss(picture, picture) == 0
    assert picture_loss(picture, 1 - picture) > 0.3


def test_unsure_attributes_cost_nothing() -> None:
    head = AttributeHead(12, 8).eval()
    logits, age = head(torch.ones(3, 12, 8, 8))
    assert {name: part.shape for name, part in logits.items()} == {name: (3, len(v)) for name, v in VALUES.items()}
    unsure = torch.full((3, len(VALUES)), -1)
    assert attribute_loss((logits, age), unsure, age.detach() * 10).item() == pytest.approx(0)
    unsure[0, 0] = 1
    assert attribute_loss((logits, age), unsure, age.detach() * 10) > 0.1
