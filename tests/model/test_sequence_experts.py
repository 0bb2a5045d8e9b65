"""Grouped sequence-level experts: what each does, where, and how a sequence is routed."""

import pytest
import torch
from torch import Tensor

from tests.model.toys import toy_config
from uniface_ray.model.expert_config import FEATURE_EXPERTS, SequenceExpertsConfig
from uniface_ray.model.routing import Images, Routing
from uniface_ray.model.sequence_experts import SequenceExperts

B, L, N = 3, 70, 64


def experts_of(**settings: object) -> SequenceExperts:
    torch.manual_seed(0)
    experts = SequenceExperts(toy_config(sequence_experts={"resampler_width": 32, "resampler_heads": 2, **settings}))
    torch.nn.init.normal_(experts.router)
    torch.nn.init.ones_(experts.scale)
    return experts


def call(generation: list[bool], names: tuple[str, ...] = FEATURE_EXPERTS) -> tuple[Routing, Images]:
    """Rows with 3 text positions, then the image, then text."""
    positions = torch.zeros(B, L, dtype=torch.bool)
    positions[:, 3 : 3 + N] = True
    torch.manual_seed(1)
    features = {name: torch.randn(B, N, 32) for name in names}
    images = Images(positions, (positions.cumsum(1) - 1).clamp(0), features)
    rows = torch.tensor(generation)
    return Routing(rows, torch.ones(B, L, dtype=torch.bool), images), images


def only(name: str) -> dict[str, object]:
    return {"understanding": [name], "generation": [name], "active": 1}


@pytest.fixture
def states() -> Tensor:
    return torch.randn(B, L, 64, generator=torch.Generator().manual_seed(2))


def test_copy_is_the_identity_and_zero_is_zero(states: Tensor) -> None:
    routing, images = call([False, True, False], names=())
    copy, zero = experts_of(**only("copy")), experts_of(**only("zero"))
    at = images.positions
    torch.testing.assert_close(copy(states, routing, images)[at], copy.norm(states)[at])
    assert torch.count_nonzero(zero(states, routing, images)) == 0


@pytest.mark.parametrize("name", ["semantic", "identity", "noise"])
def test_feature_experts_mix_state_and_feature_by_each_tokens_own_gate(name: str, states: Tensor) -> None:
    routing, images = call([False, True, True], names=(name,))
    experts = experts_of(**only(name))
    mixed = experts(states, routing, images)
    for row, position in ((0, 3), (1, 20), (2, 66)):
        x = experts.norm(states[row, position])
        w = experts.gate[name](x).softmax(-1)
        feature = experts.project[name](images.features[name][row, position - 3])
        torch.testing.assert_close(mixed[row, position], w[0] * x + w[1] * feature, atol=1e-5, rtol=1e-4)


def test_text_passes_unchanged(states: Tensor) -> None:
    routing, images = call([False, True, False])
    mixed = experts_of()(states, routing, images)
    assert torch.count_nonzero(mixed[~images.positions]) == 0
    assert torch.count_nonzero(mixed[images.positions]) > 0


def test_two_experts_a_sequence_of_its_own_group_by_the_mean_of_its_image(states: Tensor) -> None:
    routing, images = call([False, True, False])
    experts = experts_of()
    x = experts.norm(states)
    gates = experts.slot_gates(x, routing.generation, images.positions)
    for row, group in enumerate((0, 1, 0)):
        scores = (experts.router[group] @ x[row, 3 : 3 + N].mean(0)).softmax(-1)
        best = scores.topk(2)
        expected = torch.zeros(4).scatter(0, best.indices, best.values / best.values.sum())
        torch.testing.assert_close(gates[row], expected, atol=1e-5, rtol=1e-4)
    raw = experts_of(normalize_gates=False, pooling="first")
    gates = raw.slot_gates(x, routing.generation, images.positions)
    scores = (raw.router[1] @ x[1, 3]).softmax(-1)
    torch.testing.assert_close(gates[1][gates[1] > 0].sum(), scores.topk(2).values.sum())


def test_neighbours_and_padding_change_nothing(states: Tensor) -> None:
    routing, images = call([False, True, False])
    experts = experts_of()
    together = experts(states, routing, images)
    changed = states.clone()
    changed[[0, 2]] += 1
    changed[1, :3] -= 5  # text of the row itself: routing is by the image
    torch.testing.assert_close(experts(changed, routing, images)[1], together[1])


def test_routing_of_one_task_never_touches_the_others_router_and_experts(states: Tensor) -> None:
    routing, images = call([False, True, False])
    experts = experts_of(active=4)
    experts(states, routing, images)[routing.generation].sum().backward()
    assert torch.count_nonzero(experts.router.grad[0]) == 0
    assert torch.count_nonzero(experts.router.grad[1]) > 0
    for name in ("semantic", "identity"):
        assert torch.count_nonzero(experts.project[name].weight.grad) == 0
        assert torch.count_nonzero(experts.gate[name].weight.grad) == 0
    assert torch.count_nonzero(experts.project["noise"].weight.grad) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"understanding": ["clip", "copy"], "generation": ["copy", "zero"]}, "names clip, but there are semantic"),
        ({"understanding": ["copy"]}, "as many experts each"),
        ({"active": 5}, "active is 5.* 1 to 4"),
        ({"pooling": "last"}, "pooling is 'last'"),
    ],
)
def test_settings_that_do_not_fit_are_said(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SequenceExpertsConfig(**fields)
