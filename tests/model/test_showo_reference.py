"""Agreement with Show-o's own code, on a small random checkpoint."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.model.conftest import SHOWO
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.masks import attention_rule
from uniface_ray.model.prompts import generation_ids, understanding_ids

QUESTIONS = range(3)


def test_vocabulary_layout(config: UniFaceConfig, reference: dict[str, Any]) -> None:
    assert config.vocab_size == reference["vocab_size"]
    assert config.mask_token_id == reference["mask_token_id"]
    assert config.image_token_offset == reference["image_token_offset"]
    assert config.num_image_tokens == reference["num_vq_tokens"]
    assert config.pad_id == reference["pad_id"]
    ours = {name for name in reference["special_ids"] if name not in ("<|sot|>", "<|eot|>", "<|pad|>")}
    assert {name: config.special_id(name) for name in ours} == {name: reference["special_ids"][name] for name in ours}


@pytest.mark.parametrize("question", QUESTIONS)
def test_next_token_logits(
    model: UniFaceForConditionalGeneration, numbers: Mapping[str, Tensor], question: int
) -> None:
    with torch.inference_mode():
        logits = model(numbers[f"mmu.{question}.input_ids"][None]).logits[0, -1]
    torch.testing.assert_close(logits, numbers[f"mmu.{question}.next_logits"], atol=1e-4, rtol=0)


def test_greedy_tokens_of_questions_of_different_lengths_in_one_batch(
    model: UniFaceForConditionalGeneration, numbers: Mapping[str, Tensor]
) -> None:
    rows = [numbers[f"mmu.{question}.input_ids"] for question in QUESTIONS]
    assert len({len(row) for row in rows}) > 1
    tokens = greedy_text(model, rows, max_new_tokens=12, text_only=False)
    assert tokens == [numbers[f"mmu.{question}.greedy_ids"].tolist() for question in QUESTIONS]


def test_text_to_image_logits(
    model: UniFaceForConditionalGeneration, config: UniFaceConfig, numbers: Mapping[str, Tensor]
) -> None:
    with torch.inference_mode():
        logits = model(numbers["t2i.input_ids"]).logits
    codebook = slice(config.image_token_offset, config.mask_token_id)
    of_image = logits[:, -(config.num_image_tokens + 1) : -1, codebook]
    torch.testing.assert_close(of_image[..., ::16], numbers["t2i.image_logits"], atol=1e-4, rtol=0)
    with torch.inference_mode():
        hidden = model.hidden_states(numbers["t2i.input_ids"]).last_hidden_state
        alone = model.image_logits(hidden[:, -(config.num_image_tokens + 1) : -1])
    torch.testing.assert_close(alone, of_image, atol=1e-5, rtol=0)


def test_text_to_image_attention_rule(config: UniFaceConfig, numbers: Mapping[str, Tensor]) -> None:
    ids = numbers["t2i.input_ids"]
    rule = attention_rule(config, ids)[:, 0]
    queries = ids != config.pad_id  # what a padded query sees reaches nobody
    assert torch.equal(rule[queries], numbers["t2i.mask_allow"][queries])


def test_caption_attention_rule(config: UniFaceConfig, numbers: Mapping[str, Tensor]) -> None:
    ids = numbers["mmu.0.input_ids"][None]
    end = ids[0].tolist().index(config.special_id("<|eoi|>"))
    rule = attention_rule(config, ids)[0, 0]
    assert rule[:, : end + 1].all()
    assert torch.equal(rule[:, end + 1 :], torch.ones_like(rule).tril()[:, end + 1 :])


def test_sequence_layouts(config: UniFaceConfig, reference: dict[str, Any], numbers: Mapping[str, Tensor]) -> None:
    for index, question in enumerate(reference["questions"]):
        ids = numbers[f"mmu.{index}.input_ids"]
        codes = ids[2 : 2 + config.num_image_tokens] - config.image_token_offset
        assert torch.equal(understanding_ids(config, question, codes), ids)
    for index, prompt in enumerate(reference["prompts"]):
        drawn = generation_ids(config, prompt, numbers["t2i.codes"][index])
        image = slice(-1 - config.num_image_tokens, -1)
        drawn[image][numbers["t2i.masked"][index]] = config.mask_token_id
        assert torch.equal(drawn, numbers["t2i.input_ids"][index])


def test_image_tokenizer(model: UniFaceForConditionalGeneration) -> None:
    io = load_file(SHOWO / "magvitv2_io.safetensors")
    with torch.inference_mode():
        latents = model.magvit.encoder(io["pixel_values"])
        losses = model.magvit.quantize.losses(latents)
    torch.testing.assert_close(latents, io["latents"], atol=1e-4, rtol=0)
    torch.testing.assert_close(losses.commitment, io["quantizer_loss"][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(losses.entropy, io["entropy_loss"][0], atol=1e-5, rtol=0)
    assert torch.equal(model.encode_images(io["pixel_values"]), io["codes"])
    pixels = model.decode_images(io["codes"], shape=(16, 16))
    torch.testing.assert_close(pixels, io["reconstruction"].clamp(-1, 1), atol=1e-4, rtol=0)
