"""The model with experts: caches, batches, and what it says of inputs that do not fit."""

import pytest
import torch
from transformers import DynamicCache

from tests.model.toys import drawing_ids, pixels, reading_rows, toy_config, toy_model
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.masks import attention_rule
from uniface_ray.model.prompts import left_pad

CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def model() -> UniFaceForConditionalGeneration:
    return toy_model()


@torch.inference_mode()
def test_cached_decoding_equals_the_whole_sequence(model: UniFaceForConditionalGeneration) -> None:
    (row,), features = reading_rows(model, 1)
    tokens = greedy_text(model, [row], 6, features=features)[0]
    plain = row[None]
    for _ in range(6):
        text = model(plain, features=features).logits[:, -1:, : model.config.text_vocab_size]
        plain = torch.cat([plain, text.argmax(-1)], dim=1)
    assert tokens == plain[0, -6:].tolist()


@torch.inference_mode()
def test_drawing_on_a_cached_text_prefix_equals_the_whole_sequence(model: UniFaceForConditionalGeneration) -> None:
    ids = drawing_ids(model.config, 3)
    whole = model.hidden_states(ids).last_hidden_state
    prefix = model.config.max_text_length + 1
    rule = attention_rule(model.config, ids)
    draws = torch.ones(3, dtype=torch.bool)
    cache = DynamicCache(config=model.config.backbone_config)
    model.hidden_states(
        ids[:, :prefix],
        attention_mask=rule[:, :, :prefix, :prefix],
        past_key_values=cache,
        use_cache=True,
        generation=draws,
    )
    image = model.hidden_states(
        ids[:, prefix:],
        attention_mask=rule[:, :, prefix:],
        past_key_values=cache,
        use_cache=True,
        generation=draws,
    )
    torch.testing.assert_close(image.last_hidden_state, whole[:, prefix:], **CLOSE)


@torch.inference_mode()
def test_a_row_computes_the_same_alone_and_in_a_mixed_batch(model: UniFaceForConditionalGeneration) -> None:
    rows, features = reading_rows(model, 3)
    assert features is not None
    drawn = drawing_ids(model.config, 2)
    mixed = left_pad([*rows, *drawn], model.config.pad_id)
    several = features.index_select(torch.tensor([0, 1, 2, 0, 0]))
    together = model(mixed, features=several).logits
    for index, row in enumerate(rows):
        alone = model(row[None], features=features.index_select(torch.tensor([index]))).logits[0]
        torch.testing.assert_close(together[index, -len(row) :], alone, **CLOSE)
    for index, row in enumerate(drawn):
        torch.testing.assert_close(together[3 + index, -len(row) :], model(row[None]).logits[0], **CLOSE)


@torch.inference_mode()
def test_a_caption_is_the_same_alone_in_seven_and_after_its_neighbours_change(
    model: UniFaceForConditionalGeneration,
) -> None:
    rows, features = reading_rows(model, 7)
    assert features is not None
    together = greedy_text(model, rows, 8, features=features)
    order = torch.tensor([6, 2, 0])
    others = greedy_text(model, [rows[i] for i in order], 8, features=features.index_select(order))
    alone = greedy_text(model, [rows[2]], 8, features=features.index_select(torch.tensor([2])))
    assert together[2] == others[1] == alone[0]


@torch.inference_mode()
def test_features_and_mask_ratio_reach_the_rows_they_are_of() -> None:
    model = toy_model(sequence_experts={"resampler_width": 32, "resampler_heads": 2, "active": 4})
    rows, features = reading_rows(model, 2)
    ids = left_pad(rows, model.config.pad_id)
    swapped = model(ids, features=features.index_select(torch.tensor([1, 0]))).logits
    assert (swapped - model(ids, features=features).logits).abs().max() > 1e-3
    drawn = drawing_ids(model.config, 2)
    counted = model(drawn).logits
    given = model(drawn, mask_ratio=torch.tensor([7 / 64, 14 / 64])).logits
    torch.testing.assert_close(given, counted, **CLOSE)
    assert (model(drawn, mask_ratio=torch.tensor([0.9, 0.9])).logits - counted).abs().max() > 1e-4


def test_each_kind_of_experts_works_without_the_other() -> None:
    for changes in ({"sequence_experts": None}, {"token_experts": None}):
        model = toy_model(**changes)
        rows, features = reading_rows(model, 2)
        loss = model(left_pad(rows, model.config.pad_id), features=features, labels=left_pad(rows, -100)).loss
        loss.backward()
        assert torch.isfinite(loss)
    assert toy_config(sequence_experts=None).semantic_config is None


@torch.inference_mode()
def test_inputs_that_do_not_fit_are_said(model: UniFaceForConditionalGeneration) -> None:
    rows, features = reading_rows(model, 2)
    ids = left_pad(rows, model.config.pad_id)
    with pytest.raises(ValueError, match=r"semantic features: give `model.image_features"):
        model(ids)
    with pytest.raises(ValueError, match=r"are \(2, 64, 32\), but these rows need \(1, 64, 32\)"):
        model(ids[:1], features=features)
    with pytest.raises(ValueError, match="70 image tokens, but this model takes 64"):
        model(torch.full((1, 70), model.config.mask_token_id))
    cache = DynamicCache(config=model.config.backbone_config)
    model(ids, features=features, past_key_values=cache, use_cache=True)
    seen = torch.ones(2, 1, 1, ids.shape[1] + 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="give `generation`"):
        model(ids[:, -1:], attention_mask=seen, past_key_values=cache, use_cache=True)


def test_features_move_and_are_chosen_together() -> None:
    features = toy_model().image_features(pixels(2)).to(dtype=torch.bfloat16)
    assert features.semantic.dtype == features.identity.dtype == torch.bfloat16
    twice = features.index_select(torch.tensor([1, 1, 0]))
    assert torch.equal(twice.identity, features.identity[[1, 1, 0]])
