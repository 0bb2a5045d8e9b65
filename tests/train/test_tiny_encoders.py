"""The encoders' training: what a wild view hides is not asked, losses are least where they should be, steps teach."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uniface_ray.evaluate.attribute_net import attribute_chances
from uniface_ray.model.encoders import Encoders
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.presets import preset
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import wild_views
from uniface_ray.train.tiny.encoders import EncodersRecipe, Pupils, Telling, apart_loss, taught_loss, train_encoders
from uniface_ray.train.tiny.judge import JudgeRecipe, train_judge
from uniface_ray.train.tiny.network import new_model
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.settle import settle


def faces(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 160, 160), generator=generator, dtype=torch.uint8)


@pytest.fixture
def prepared() -> Prepared:
    classes = torch.full((8, len(VALUES)), -1)
    classes[:, 0] = torch.arange(8) % 2
    return Prepared(faces(8), classes, torch.full((8,), 30.0))


def test_a_view_without_colour_tells_no_hair_colour() -> None:
    views, told = wild_views(faces(64), 32, torch.Generator().manual_seed(0))
    grey = (views.amax(1) - views.amin(1)).amax(dim=(1, 2)) < 1e-4
    hair = list(VALUES).index("hair_color")
    assert 0 < grey.sum() < 32
    assert not told[grey, hair].any()
    assert told[:, hair].any()
    assert told[:, list(VALUES).index("smile")].all()


def test_caps_hide_hair_and_gender_and_brows_keep_their_place() -> None:
    plain = torch.full((256, 3, 64, 64), 128, dtype=torch.uint8)
    views, told = wild_views(plain, 64, torch.Generator().manual_seed(0))
    told_hair = told[:, list(VALUES).index("hair_color")]
    assert torch.equal(told_hair, told[:, list(VALUES).index("bald")] & told_hair)
    assert torch.equal(told[:, list(VALUES).index("gender")], told[:, list(VALUES).index("bald")])
    # What differs from an even grey picture was put on: caps where the hair is not told, glasses on either.
    dressed = (views - views[:, :, -1:, -1:]).abs().amax((1, 2, 3)) > 0.3
    capped = ~told[:, list(VALUES).index("bald")]
    assert 0.3 < capped.float().mean() < 0.5
    assert dressed[capped].float().mean() > 0.6
    assert 0.1 < dressed[~capped].float().mean() < 0.7


def test_telling_apart_is_cheapest_when_each_face_finds_itself() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(8, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert apart_loss(torch.cat([vectors, vectors]), 0.1) < apart_loss(torch.cat([vectors, vectors.flip(0)]), 0.1)


def test_what_a_view_hides_is_to_be_told() -> None:
    tells, cells = Telling(4, 8).eval(), torch.randn(2, 4, 8)
    with torch.no_grad():
        tells.hidden.weight.zero_()
        tells.hidden.bias.fill_(-8.0)  # says that nothing is hidden
    everything = torch.ones(2, len(VALUES), dtype=torch.bool)
    assert tells.hiding_loss(cells, everything) < 0.01
    assert tells.hiding_loss(cells, ~everything) > 5


def test_a_pupil_that_answers_as_its_teacher_has_learnt() -> None:
    answers = {name: torch.randn(4, len(values)) for name, values in VALUES.items()}
    assert taught_loss(answers, answers).item() == pytest.approx(0, abs=1e-5)
    assert taught_loss({name: -logits for name, logits in answers.items()}, answers) > 0.1


def test_training_resumes_and_the_model_sees_as_the_pupils_did(prepared: Prepared, tmp_path: Path) -> None:
    train_encoders(prepared, torch.ones(8), EncodersRecipe(steps=1, faces=4), tmp_path)
    pupils = train_encoders(prepared, torch.ones(8), EncodersRecipe(steps=2, faces=4), tmp_path)
    config = preset("tiny", text_vocab_size=300)
    model = new_model(config, MagvitV2(config.magvit_config), pupils.identity, pupils.semantic).eval()
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        cells, _, patches = pupils.look(pixels)
        assert isinstance(model.encoders, Encoders)
        torch.testing.assert_close(model.encoders.identity(pixels), cells, atol=1e-4, rtol=1e-4)
        seen = pupils.semantic.post_layernorm(model.encoders.semantic(pixels))
        torch.testing.assert_close(seen, patches, atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in model.encoders.identity.parameters())


def test_a_judge_gives_probabilities(prepared: Prepared, tmp_path: Path) -> None:
    judge = train_judge(prepared, JudgeRecipe(steps=2, batch=4), torch.ones(8), tmp_path / "judge.pt")
    seen = attribute_chances(judge, torch.zeros(3, 3, 128, 128))
    for name, values in VALUES.items():
        assert seen[name].shape == (3, len(values))
        torch.testing.assert_close(seen[name].sum(-1), torch.ones(3))


def test_only_the_open_is_settled_and_ages_by_the_nearest_group(prepared: Prepared) -> None:
    years = torch.tensor([5.0, 14.0, 16.0, 33.0, 39.0, 54.0, 55.0, 80.0])
    settled = settle(replace(prepared, years=years), Pupils().eval())
    known = prepared.classes >= 0
    assert torch.equal(settled.classes[known], prepared.classes[known])
    groups = [VALUES["age_group"][index] for index in settled.classes[:, list(VALUES).index("age_group")].tolist()]
    assert groups == ["child"] * 2 + ["young adult"] * 2 + ["middle-aged"] * 2 + ["older"] * 2
    # Pupils that have learnt nothing are sure of nothing.
    assert (settled.classes[:, list(VALUES).index("smile")] == -1).all()
