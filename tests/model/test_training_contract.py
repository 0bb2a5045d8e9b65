"""What training needs of a model with experts: checkpointed layers, bfloat16, adapters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.toys import drawing_ids, pixels, reading_rows, toy_model
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import left_pad
from uniface_ray.model.routing import Layout


def mixed_batch(model: UniFaceForConditionalGeneration) -> dict[str, Any]:
    """Two rows that read and two that draw, labelled with what comes next."""
    rows, _ = reading_rows(model, 2)
    ids = left_pad([*rows, *drawing_ids(model.config, 2)], model.config.pad_id)
    labels = torch.where(ids == model.config.pad_id, -100, ids)
    return {"input_ids": ids, "labels": labels, "features": model.image_features(pixels(4))}


def gradients(model: UniFaceForConditionalGeneration) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    model(**mixed_batch(model)).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_checkpointed_layers_run_again_and_give_the_same_gradients() -> None:
    model = toy_model().train()
    calls: list[int] = []
    model.showo.model.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    plain = gradients(model)
    assert len(calls) == 1
    model.activation_checkpointing_enable()
    checkpointed = gradients(model)
    assert len(calls) == 1 + 2  # forward, and again in the backward pass
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert "encoders.resamplers.identity.queries" in plain  # features get theirs through the layers


def test_bfloat16_computes_and_learns_in_bfloat16() -> None:
    model = toy_model().bfloat16().train()
    output = model(**mixed_batch(model))
    assert output.logits.dtype == torch.bfloat16
    assert output.balance_loss.dtype == torch.float32
    output.loss.backward()
    assert model.showo.model.layers[0].mlp.routed.up_proj.grad.dtype == torch.bfloat16
    exact = toy_model()
    with torch.no_grad():
        near = model.eval()(**mixed_batch(model)).logits.float()
        far = (near - exact(**mixed_batch(exact)).logits).abs()
    assert far.median() < 0.05  # and no more is promised: a rounded score can choose another expert


def test_autocast_runs_forward_and_backward() -> None:
    model = toy_model().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**mixed_batch(model))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert model.showo.model.layers[0].mlp.routed.up_proj.grad.dtype == torch.float32


TARGETS = {
    "attention": {"target_modules": ["q_proj", "k_proj", "v_proj", "dense"]},
    "attention and head": {"target_modules": ["q_proj", "lm_head"]},
    "experts": {"target_parameters": ["routed.up_proj", "routed.down_proj"], "target_modules": []},
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
def test_lora_attaches_learns_and_merges(targets: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft", reason="the extra `peft`")
    base = toy_model()
    adapted = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(r=4, lora_alpha=32, **targets))
    trainable = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(**mixed_batch(base)).loss.backward()
        optimizer.step()
    assert all("lora_" in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)
    adapted.eval()
    with torch.no_grad():
        batch = mixed_batch(base)
        before = base(**batch).logits
        unmerged = adapted(**batch).logits
        of_images = adapted.image_logits(adapted.hidden_states(batch["input_ids"], features=batch["features"])[0])
        prompt = torch.arange(5, 15)[None]
        of_prompt = adapted.hidden_states(prompt, layout=Layout(generation=True))[0]
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(
            merged.hidden_states(prompt, layout=Layout(generation=True))[0], of_prompt, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(merged(**batch).logits, unmerged, atol=1e-4, rtol=1e-4)
        codes = slice(base.config.image_token_offset, base.config.mask_token_id)
        torch.testing.assert_close(of_images, unmerged[..., codes], atol=1e-4, rtol=1e-4)
    assert (unmerged - before).abs().max() > 1e-3
    assert isinstance(merged, UniFaceForConditionalGeneration)
    assert merged.state_dict().keys() == base.state_dict().keys()
