"""The training's shortcuts (packed rows, bit embeddings, resuming) change nothing that the shipped model sees."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.masks import additive
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import understanding_ids
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.backbone import BackboneRecipe, Reader, flip_bits, train_backbone
from uniface_ray.train.tiny.packing import IGNORED, Conversation, pack


@pytest.fixture
def config() -> UniFaceConfig:
    torch.manual_seed(0)
    return UniFaceConfig(
        backbone_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 128,
        },
        magvit_config={
            "image_size": 16,
            "base_channels": 4,
            "encoder_multipliers": [1, 1, 2],
            "encoder_blocks": [1, 1, 1],
            "decoder_multipliers": [1, 1, 2],
            "decoder_blocks": [1, 1, 1],
            "latent_bits": 5,
            "norm_groups": 2,
        },
        text_vocab_size=50,
        max_text_length=16,
        bos_token_id=0,
        eos_token_id=0,
    )


TALK = [
    [Conversation([3, 4, 5], [6, 7]), Conversation([8], [9, 10, 11])],
    [Conversation([12, 13], [14])],
]


def test_a_packed_text_is_the_prompt_of_the_shipped_model(config: UniFaceConfig) -> None:
    reader = Reader(config, dropout=0.0).eval()
    model = UniFaceForConditionalGeneration(config).eval()
    model.showo.load_state_dict(reader.folded())
    codes = torch.randint(config.codebook_size, (2, config.num_image_tokens))
    packed = pack(config, codes, TALK)
    with torch.no_grad():
        hidden = reader.phi.model(
            inputs_embeds=reader.embedding_table()[packed.input_ids],
            attention_mask=additive(packed.rule, torch.float32),
            position_ids=packed.positions,
        ).last_hidden_state
        targets = packed.targets != IGNORED
        together = reader.phi.lm_head(hidden[targets])[:, : config.text_vocab_size]
        apart = []
        for row_codes, conversations in zip(codes, TALK, strict=True):
            for talk in conversations:
                ids = understanding_ids(config, [*talk.question, *talk.answer], row_codes)[None]
                logits = model(ids).logits[0, -len(talk.answer) - 1 :]
                assert logits.argmax(-1).max() < config.text_vocab_size
                apart.append(logits[:, : config.text_vocab_size])
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-4)
    assert packed.targets[targets].tolist() == [6, 7, 0, 9, 10, 11, 0, 14, 0]


def test_image_rows_of_the_table_are_sums_of_their_bits(config: UniFaceConfig) -> None:
    reader = Reader(config, dropout=0.0)
    rows = reader.embedding_table()[config.image_token_offset : config.mask_token_id]
    torch.testing.assert_close(rows[0b10110], reader.bit_vectors.T @ torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert reader.embedding_table().shape == (config.vocab_size, 32)


def test_flipped_bits_stay_codes() -> None:
    codes = torch.randint(4096, (64, 64))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(flip_bits(codes, 12, 0.0, generator), codes)
    assert torch.equal(flip_bits(codes, 12, 1.0, generator), 4095 - codes)
    changed = flip_bits(codes, 12, 0.02, generator) ^ codes
    share = sum(((changed >> bit) & 1).float().mean().item() for bit in range(12)) / 12
    assert share == pytest.approx(0.02, rel=0.1)


def test_a_resumed_training_is_the_unbroken_one(config: UniFaceConfig, tmp_path: Path) -> None:
    count = 6
    views = torch.randint(config.codebook_size, (2, count, config.num_image_tokens))
    classes = torch.full((count, len(VALUES)), -1)
    classes[:, 0] = torch.arange(count) % 2

    def converse(index: int, rng: random.Random) -> list[Conversation]:
        return [Conversation([3 + index], [20 + rng.randrange(3)])]

    def train(folder: Path, stop_after: int) -> dict[str, Tensor]:
        folder.mkdir(exist_ok=True)
        recipe = BackboneRecipe(steps=4, batch=3, dropout=0.2)
        years = torch.full((count,), 30.0)
        reader = train_backbone(
            config, views, classes, years, torch.ones(count), converse, recipe, folder, stop_after=stop_after
        )
        return reader.folded()

    train(tmp_path / "broken", stop_after=2)
    resumed, unbroken = train(tmp_path / "broken", stop_after=4), train(tmp_path / "whole", stop_after=4)
    for name, value in unbroken.items():
        torch.testing.assert_close(resumed[name], value)
