"""The training's shortcuts (packed rows, bit tables, resuming) change nothing that the shipped model sees."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import uniface_ray
from tests.model.toys import toy_config
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.model.prompts import understanding_ids
from uniface_ray.train.tiny import backbone
from uniface_ray.train.tiny.appearance import HAIR_COLORS
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.backbone import GO_ON, BackboneRecipe, Trainee, make_batch, train_backbone
from uniface_ray.train.tiny.bits import BitRows, flip_bits
from uniface_ray.train.tiny.checkpoint import save_progress
from uniface_ray.train.tiny.encoders import EncodersRecipe, Pupils
from uniface_ray.train.tiny.network import trained_model
from uniface_ray.train.tiny.packing import IGNORED, Conversation, pack
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.recipe import go_on
from uniface_ray.train.tiny.talk import Talk, example_texts
from uniface_ray.train.tiny.text_tokenizer import train_text_tokenizer

TALK = [
    [Conversation([3, 4, 5], [6, 7]), Conversation([8], [9, 10, 11])],
    [Conversation([12, 13], [14])],
]
RECIPE = BackboneRecipe(steps=4, read=4, drawn=2, dropout=0.2)


@pytest.fixture
def prepared() -> Prepared:
    generator = torch.Generator().manual_seed(0)
    classes = torch.full((6, len(VALUES)), -1)
    classes[:, 0] = torch.arange(6) % 2
    faces = torch.randint(256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Prepared(faces, classes, torch.full((6,), 30.0))


def new_model(text_vocab_size: int = 300) -> UniFaceForConditionalGeneration:
    torch.manual_seed(0)
    model = UniFaceForConditionalGeneration(
        toy_config(text_vocab_size=text_vocab_size, max_text_length=64, bos_token_id=0, eos_token_id=0)
    )
    for part in (model.magvit, model.encoders.identity, model.encoders.semantic):
        part.requires_grad_(False).eval()
    for layer in model.showo.model.layers:
        torch.nn.init.constant_(layer.sequence_experts.scale, 0.3)
    return model


def talk_about(prepared: Prepared) -> Talk:
    return Talk(prepared, train_text_tokenizer(example_texts(prepared), vocab_size=300))


def test_a_packed_text_is_the_prompt_of_the_shipped_model() -> None:
    model = new_model().eval()
    config = model.config
    codes = torch.randint(config.codebook_size, (2, config.num_image_tokens))
    packed = pack(config, codes, TALK)
    with torch.no_grad():
        features = model.image_features(torch.rand(2, 3, 32, 32) * 2 - 1)
        hidden = model.hidden_states(
            packed.input_ids, attention_mask=packed.rule, position_ids=packed.positions, features=features
        ).last_hidden_state
        targets = packed.targets != IGNORED
        together, apart = model.text_logits(hidden[targets]), []
        for index, (row_codes, conversations) in enumerate(zip(codes, TALK, strict=True)):
            for talk in conversations:
                ids = understanding_ids(config, [*talk.question, *talk.answer], row_codes)[None]
                seen = features.index_select(torch.tensor([index]))
                states = model.hidden_states(ids, features=seen).last_hidden_state
                apart.append(model.text_logits(states[0, -len(talk.answer) - 1 :]))
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-4)
    assert packed.targets[targets].tolist() == [6, 7, 0, 9, 10, 11, 0, 14, 0]


def test_image_rows_of_the_table_are_sums_of_their_bits() -> None:
    config: UniFaceConfig = toy_config()
    rows = BitRows(config, 0.1)
    free = torch.randn(config.vocab_size, config.backbone_config.hidden_size)
    added = rows(free) - free
    expected = rows.vectors.T @ torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    torch.testing.assert_close(added[rows.rows][0b101100], expected)
    assert added[: rows.rows.start].abs().max() == added[rows.rows.stop :].abs().max() == 0


def test_folding_changes_no_output(prepared: Prepared) -> None:
    trainee = Trainee(new_model(), RECIPE, ()).eval()
    model = trainee.model
    ids = understanding_ids(model.config, [3, 4], torch.arange(model.config.num_image_tokens) % 64)[None]
    features = model.image_features(torch.zeros(1, 3, 32, 32))
    with torch.no_grad():
        states = model.hidden_states(ids, features=features).last_hidden_state
        head = model.get_output_embeddings()
        rows = trainee.head_bits.rows
        logits = states @ trainee.head_bits(head.weight)[rows].T + head.bias[rows]
        folded = trainee.fold()
        states = folded.hidden_states(ids, features=features).last_hidden_state
        torch.testing.assert_close(folded.image_logits(states), logits)
    assert "showo.model.embed_tokens.weight" in folded.state_dict()
    fresh = new_model()
    fresh.load_state_dict(folded.state_dict())


def test_a_model_that_goes_on_begins_with_all_it_has_learnt() -> None:
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = Trainee(model, replace(RECIPE, trained=True), ()).fold().state_dict()
    for name, value in before.items():
        torch.testing.assert_close(folded[name], value, msg=name)


def test_going_on_takes_the_new_encoders_and_all_else_of_the_model(prepared: Prepared, tmp_path: Path) -> None:
    start, other = new_model(), new_model()
    for encoder in (other.encoders.identity, other.encoders.semantic):
        torch.nn.init.normal_(next(encoder.model.parameters()))
    start.save_pretrained(tmp_path)
    went_on = trained_model(tmp_path, other.encoders.identity.model, other.encoders.semantic.model).state_dict()
    new = ("encoders.identity.", "encoders.semantic.")
    expected = start.state_dict() | {k: v for k, v in other.state_dict().items() if k.startswith(new)}
    for name, value in expected.items():
        torch.testing.assert_close(went_on[name], value, msg=name)


def test_each_start_and_recipe_goes_on_in_a_folder_of_its_own(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    faces = torch.randint(256, (4, 3, 128, 128), generator=generator, dtype=torch.uint8)
    prepared = Prepared(faces, torch.zeros(4, len(VALUES), dtype=torch.long), torch.full((4,), 30.0))
    pupils = Pupils()
    groups = [[p for p in pupils.parameters() if (p.ndim >= 2) == decayed] for decayed in (True, False)]
    optimizer = torch.optim.AdamW([{"params": group} for group in groups])
    save_progress(tmp_path / "encoders.pt", pupils, optimizer, EncodersRecipe().steps)
    start = Path(uniface_ray.__file__).parent / "model/weights/uniface-tiny"
    steps = replace(GO_ON, steps=1, read=4, drawn=1)
    made = go_on(prepared, tmp_path, start, steps)
    weights, before = load_file(made / "model.safetensors"), load_file(start / "model.safetensors")
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, weights[name])}
    assert changed == {"encoders", "showo"}
    assert go_on(prepared, tmp_path, start, steps) == made
    assert go_on(prepared, tmp_path, start, replace(steps, steps=0)) != made
    assert go_on(prepared, tmp_path, made, steps) != made


def test_a_word_for_a_colour_counts_as_often_as_the_recipe_says(prepared: Prepared) -> None:
    talk, recipe = talk_about(prepared), replace(RECIPE, dropout=0.0)
    batch = make_batch(new_model(), talk, torch.ones(6), recipe, 0)
    word = batch.conversations[0][0].answer[1]

    def text_loss(ids: Sequence[int], weight: float) -> float:
        trainee = Trainee(new_model(), replace(recipe, color_weight=weight), ids).eval()
        return trainee(batch).text.item()

    plain, alone = text_loss([word], 1.0), text_loss([word], 1e6)
    low, high = sorted((plain, alone))
    assert low < text_loss([word], 3.0) < high
    assert text_loss(range(300), 3.0) == pytest.approx(plain, rel=1e-5)


def test_what_is_read_off_the_resamplers_teaches_them_and_not_the_language_model(prepared: Prepared) -> None:
    trainee = Trainee(new_model(), replace(RECIPE, resampler_weight=0.3), ())
    losses = trainee(make_batch(trainee.model, talk_about(prepared), torch.ones(6), RECIPE, 0))
    without = replace(losses, resampled=torch.zeros(()))
    torch.testing.assert_close(trainee.total(losses) - trainee.total(without), 0.3 * losses.resampled)
    losses.resampled.backward()
    taught = {name for name, one in trainee.model.named_parameters() if one.grad is not None}
    names = ("encoders.resamplers.semantic.", "encoders.resamplers.identity.")
    assert taught == {name for name, _ in trainee.model.named_parameters() if name.startswith(names)}


def test_without_a_weight_the_resamplers_have_no_heads(prepared: Prepared) -> None:
    trainee = Trainee(new_model(), RECIPE, ())
    assert not any(name.startswith("resampler_heads") for name in trainee.state_dict())
    assert trainee(make_batch(trainee.model, talk_about(prepared), torch.ones(6), RECIPE, 0)).resampled == 0


def test_training_weighs_the_colours_of_its_talk(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, made = talk_about(prepared), []
    talk.color_ids = [7, 9]
    monkeypatch.setattr(backbone, "Trainee", lambda *args: made.append(Trainee(*args)) or made[-1])
    train_backbone(new_model(), talk, torch.ones(6), replace(RECIPE, color_weight=3.0), tmp_path, stop_after=1)
    assert (made[0].token_weights == 3.0).nonzero()[:, 0].tolist() == [7, 9]


def test_parts_of_words_are_no_colours(prepared: Prepared) -> None:
    assert talk_about(prepared).color_ids == []


def test_colours_of_hair_are_words_of_the_shipped_tokenizer() -> None:
    start = Path(uniface_ray.__file__).parent / "model/weights/uniface-tiny"
    tokenizer = UniFaceProcessor.from_pretrained(start).tokenizer
    nobody = Prepared(torch.zeros(0), torch.zeros(0, len(VALUES)), torch.zeros(0))
    assert [tokenizer.decode([one]) for one in Talk(nobody, tokenizer).color_ids] == [f" {c}" for c in HAIR_COLORS]


def test_flipped_bits_stay_codes() -> None:
    codes = torch.randint(4096, (64, 64))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(flip_bits(codes, 12, 0.0, generator), codes)
    assert torch.equal(flip_bits(codes, 12, 1.0, generator), 4095 - codes)
    changed = flip_bits(codes, 12, 0.02, generator) ^ codes
    share = sum(((changed >> bit) & 1).float().mean().item() for bit in range(12)) / 12
    assert share == pytest.approx(0.02, rel=0.1)


def test_painted_faces_are_read_but_not_drawn(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = talk_about(replace(prepared, painted=torch.arange(6) > 1))
    read: list[int] = []
    drawn: list[int] = []
    monkeypatch.setattr(talk, "conversations", lambda face, told, rng: read.append(face) or [Conversation([3], [4])])
    monkeypatch.setattr(talk, "prompt", lambda face, rng: drawn.append(face) or [])
    make_batch(new_model(), talk, torch.ones(6), replace(RECIPE, read=40, drawn=40), 0)
    assert set(read) == set(range(6))
    assert set(drawn) == {0, 1}


def test_a_batch_is_the_same_whenever_it_is_made(prepared: Prepared) -> None:
    model, talk = new_model(), talk_about(prepared)
    first, again, other = (make_batch(model, talk, torch.ones(6), RECIPE, step) for step in (1, 1, 2))
    assert first.prompts == again.prompts
    assert first.conversations == again.conversations
    assert torch.equal(first.seen.identity, again.seen.identity)
    assert not torch.equal(first.seen.identity, other.seen.identity)


def test_a_resumed_training_is_the_unbroken_one(prepared: Prepared, tmp_path: Path) -> None:
    talk = talk_about(prepared)

    def train(folder: Path, stop_after: int) -> dict[str, Tensor]:
        folder.mkdir(exist_ok=True)
        return train_backbone(new_model(), talk, torch.ones(6), RECIPE, folder, stop_after).state_dict()

    train(tmp_path / "broken", stop_after=2)
    resumed, unbroken = train(tmp_path / "broken", stop_after=4), train(tmp_path / "whole", stop_after=4)
    for name, value in unbroken.items():
        torch.testing.assert_close(resumed[name], value)
