"""Judges and vision models: which can be used, what they are asked, and how an engine gets eyes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Likelihood, Look, Score, Seen
from uniface_ray.evaluate.attribute_net import AttributeNet, attribute_chances
from uniface_ray.evaluate.eyes import Eyes, with_eyes
from uniface_ray.evaluate.vision import check_encoder, check_judge, check_vision, load_judge, load_vision

STORAGE = StorageConfig()
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PREPROCESSOR = {"size": {"height": 32, "width": 32}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


def vit(folder: Path, labels: list[str] | None = None) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(image_size=32, patch_size=16, **TINY, id2label=dict(enumerate(labels or ["a", "b"])))
    (ViTModel(config) if labels is None else ViTForImageClassification(config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def own_judge(folder: Path) -> AttributeNet:
    torch.manual_seed(0)
    net = AttributeNet({"gender": ("female", "male"), "skin": ("fair", "dark")}).eval()
    net.save(folder)
    return net


PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_our_own_judge_comes_back_from_its_folder(tmp_path: Path) -> None:
    net = own_judge(tmp_path)
    loaded = AttributeNet.load(tmp_path)
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    for name, chances in attribute_chances(net, pixels).items():
        torch.testing.assert_close(chances, attribute_chances(loaded, pixels)[name])
        torch.testing.assert_close(chances, attribute_chances(loaded, pixels.flip(-1))[name])  # mirrored views count
    assert check_judge(str(tmp_path), STORAGE) == ("gender",)  # skin cannot be read out of prompts
    seen = load_judge(str(tmp_path), STORAGE, "cpu")(PIXELS)
    assert set(seen) == {"gender"}
    torch.testing.assert_close(seen["gender"]["female"] + seen["gender"]["male"], torch.ones(3))


def test_a_classifier_of_transformers_is_a_judge_where_its_classes_are_values(tmp_path: Path) -> None:
    path = str(vit(tmp_path, ["Man", "Woman"]))
    assert check_judge(path, STORAGE) == ("gender",)
    seen = load_judge(path, STORAGE, "cpu")(PIXELS)
    model = ViTForImageClassification.from_pretrained(path).eval()
    mean, std = (torch.tensor(PREPROCESSOR[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    expected = model(pixel_values=((PIXELS + 1) / 2 - mean) / std).logits.softmax(-1)
    torch.testing.assert_close(seen["gender"]["male"], expected[:, 0].detach())


def test_features_are_pooled(tmp_path: Path) -> None:
    path = str(vit(tmp_path))
    assert check_vision(path, STORAGE) == f"{tmp_path.name} (vit)"
    features = load_vision(path, STORAGE, "cpu")(PIXELS)
    assert features.shape == (3, 16)
    assert features.dtype == np.float32
    assert not np.allclose(features[0], features[1])


def test_what_cannot_look_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.judges has .*classes are cat, dog.*gender: female, male"):
        check_judge(str(vit(tmp_path / "cats", ["cat", "dog"])), STORAGE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"evaluate.features is '.*empty'.*config.json"):
        check_vision(str(tmp_path / "empty"), STORAGE)
    bare = vit(tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"without a preprocessor_config.json that says `size`"):
        check_vision(str(bare), STORAGE)


def test_features_of_the_models_own_encoders_need_one(random_model: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.features is semantic, but model.path .* has no such encoder"):
        check_encoder("semantic", ModelConfig(name="toy", path=str(random_model)), STORAGE)


def test_an_engine_with_eyes_answers_everything(tmp_path: Path) -> None:
    own_judge(tmp_path / "judge")
    config = MeasureConfig(of="drawings", judges=(str(tmp_path / "judge"),), features=str(vit(tmp_path / "vit")))
    engine = with_eyes(NullEngine(32), config, STORAGE, "cpu")
    pixels = [np.full((3, 32, 32), value, np.uint8) for value in (0, 100, 200)]
    asked = [Look(pixels[0]), Score(pixels[1], "a face"), Look(pixels[2]), Look(pixels[0])]
    first, score, second, again = engine.run(asked)
    assert isinstance(first, Seen)
    assert isinstance(second, Seen)
    assert isinstance(again, Seen)
    assert isinstance(score, Likelihood)
    assert first.chances["gender"] == pytest.approx(again.chances["gender"])
    assert first.chances != second.chances
    assert first.features is not None
    assert first.features.shape == (16,)
    with_eyes(NullEngine(32), MeasureConfig(of="captions"), STORAGE, "cpu")  # nothing to load


def test_a_picture_that_cannot_be_looked_at_costs_no_other() -> None:
    def judge(pixels: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
        if (pixels == 1).any():
            raise RuntimeError("too bright")
        return {"gender": {"female": torch.ones(len(pixels))}}

    engine = Eyes(NullEngine(8), [judge], None, "cpu")
    dark, bright = np.zeros((3, 8, 8), np.uint8), np.full((3, 8, 8), 255, np.uint8)
    cancelled = engine.submit(Look(dark))
    engine.cancel(cancelled)
    outcomes = engine.run([Look(dark), Look(bright), Look(dark)])
    assert [isinstance(one, Reject) for one in outcomes] == [False, True, False]
    assert isinstance(outcomes[1], Reject)
    assert "too bright" in outcomes[1].message
