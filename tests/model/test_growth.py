"""Growing experts on a dense model: equal where all units are there, near where they are not."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.toys import drawing_ids, reading_rows, toy_config, toy_model
from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.growth import grow
from uniface_ray.model.prompts import left_pad


@pytest.fixture(scope="module")
def dense() -> UniFaceForConditionalGeneration:
    model = toy_model(token_experts=None, sequence_experts=None)
    for layer in model.showo.model.layers:  # as large as trained ones, so that a missing unit is seen
        for linear in (layer.mlp.fc1, layer.mlp.fc2):
            torch.nn.init.normal_(linear.weight, std=0.1)
            torch.nn.init.normal_(linear.bias, std=0.1)
    return model


@torch.inference_mode()
def logits(model: UniFaceForConditionalGeneration) -> tuple[Tensor, Tensor]:
    """Of rows that read and of rows that draw."""
    rows, features = reading_rows(model, 2)
    reading = model(left_pad(rows, model.config.pad_id), features=features).logits
    return reading, model(drawing_ids(model.config, 2)).logits


EXACT = {
    "a shared expert that is the whole network": {"shared_width": 128, "width": 16, "routed": 4, "active": 2},
    "all units, all active": {"shared_width": 32, "width": 24, "routed": 4, "active": 4},
    "all units, all active, gates normalised": {
        "shared_width": 32,
        "width": 32,  # more room than units
        "routed": 4,
        "active": 4,
        "normalize_gates": True,
    },
}


@pytest.mark.parametrize("experts", EXACT.values(), ids=EXACT.keys())
def test_outputs_are_equal_where_no_unit_is_missing(
    dense: UniFaceForConditionalGeneration, experts: dict[str, Any]
) -> None:
    grown = grow(dense, toy_config(token_experts=experts))
    for before, after in zip(logits(dense), logits(grown), strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("experts", EXACT.values(), ids=EXACT.keys())
def test_every_new_weight_can_learn(dense: UniFaceForConditionalGeneration, experts: dict[str, Any]) -> None:
    grown = grow(dense, toy_config(token_experts=experts)).train()
    optimizer = torch.optim.SGD(grown.parameters(), lr=1.0)
    rows, _ = reading_rows(grown, 2)
    ids = left_pad(rows, grown.config.pad_id)
    for _ in range(3):  # what begins at zero passes its gradient on from the second step
        optimizer.zero_grad()
        grown(ids, features=grown.image_features(torch.rand(2, 3, 32, 32)), labels=ids).loss.backward()
        optimizer.step()
    layer = grown.showo.model.layers[0]
    new = {
        "routed up": layer.mlp.routed.up_proj.grad[: len(layer.mlp.router[0])],
        "routed down": layer.mlp.routed.down_proj.grad[: len(layer.mlp.router[0])],
        "router": layer.mlp.router.grad[0],
        "sequence scale": layer.sequence_experts.scale.grad,
        "sequence router": layer.sequence_experts.router.grad[0],
    }
    assert [name for name, gradient in new.items() if torch.count_nonzero(gradient) == 0] == []


def test_with_the_papers_proportions_a_layer_stays_near(dense: UniFaceForConditionalGeneration) -> None:
    torch.manual_seed(0)
    papers = {"shared_width": 32, "width": 8, "routed": 8, "active": 4}
    grown = grow(dense, toy_config(token_experts=papers, sequence_experts=None))
    before, after = (logits(model)[0].flatten(0, 1) for model in (dense, grown))
    for layer in grown.showo.model.layers:
        layer.mlp.routed.down_proj.data.zero_()
    without = logits(grown)[0].flatten(0, 1)
    near = torch.cosine_similarity(before, after).mean()
    assert near > 0.6
    assert near > torch.cosine_similarity(before, without).mean() + 0.05


def test_what_cannot_grow_is_said(dense: UniFaceForConditionalGeneration) -> None:
    with pytest.raises(UserError, match="this one has experts"):
        grow(toy_model(), toy_config())
    with pytest.raises(
        UserError, match=r"embed_tokens.weight of the dense model is \(375, 64\), config says \(385, 64\)"
    ):
        grow(dense, toy_config(text_vocab_size=310))
