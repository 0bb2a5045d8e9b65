"""The model through transformers' ordinary interface."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache

from tests.model.toys import toy_model
from tests.tiny import tokenizer
from uniface_ray.model import MagvitV2Config, UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.prompts import generation_ids


@pytest.fixture(scope="module")
def folder(
    model: UniFaceForConditionalGeneration, config: UniFaceConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("saved")
    model.save_pretrained(path, max_shard_size="500KB")
    UniFaceProcessor(tokenizer(config.text_vocab_size), config).save_pretrained(path)
    return path


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("with_experts", [False, True])
def test_saved_and_loaded_in_another_process_it_computes_the_same(
    model: UniFaceForConditionalGeneration,
    folder: Path,
    pictures: list[np.ndarray],
    tmp_path: Path,
    with_experts: bool,
) -> None:
    if with_experts:
        model, folder = toy_model(), tmp_path / "experts"
        model.save_pretrained(folder, max_shard_size="500KB")
        UniFaceProcessor(tokenizer(model.config.text_vocab_size), model.config).save_pretrained(folder)
    np.save(tmp_path / "pictures.npy", np.stack(pictures))
    script = """if True:
        import sys, numpy, torch, uniface_ray.model
        from transformers import AutoModelForImageTextToText, AutoProcessor
        folder, work = sys.argv[1:]
        pictures = list(numpy.load(work + "/pictures.npy"))
        inputs = AutoProcessor.from_pretrained(folder)(pictures, ["who?", "how old is she?"])
        with torch.inference_mode():
            torch.save(AutoModelForImageTextToText.from_pretrained(folder).eval()(**inputs).logits, work + "/logits.pt")
    """
    assert list(folder.glob("*.index.json")), "the checkpoint should be in shards"
    subprocess.run([sys.executable, "-c", script, str(folder), str(tmp_path)], check=True)
    inputs = AutoProcessor.from_pretrained(folder)(pictures, ["who?", "how old is she?"])
    with torch.inference_mode():
        logits = model(**inputs).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt", weights_only=True), logits)


def test_auto_classes_find_the_model(folder: Path) -> None:
    assert isinstance(AutoModelForImageTextToText.from_pretrained(folder), UniFaceForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(folder), UniFaceProcessor)


def test_the_cache_changes_nothing_but_the_cost(model: UniFaceForConditionalGeneration, folder: Path) -> None:
    processor = UniFaceProcessor.from_pretrained(folder)
    picture = np.zeros((16, 16, 3), np.uint8)
    ids = model.place_images(**processor(picture, "a question"))
    tokens = greedy_text(model, [ids[0]], max_new_tokens=6)[0]
    plain = ids
    with torch.inference_mode():
        for _ in range(6):
            text = model(plain).logits[:, -1:, : model.config.text_vocab_size]
            plain = torch.cat([plain, text.argmax(-1)], dim=1)
    assert tokens == plain[0, -6:].tolist()


def test_each_row_stops_at_its_own_end_token(model: UniFaceForConditionalGeneration, folder: Path) -> None:
    processor = UniFaceProcessor.from_pretrained(folder)
    pictures = list(np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8))
    questions = ["q" * (1 + index % 4) for index in range(9)]
    inputs = processor(pictures, questions)
    rows = [row[row != model.config.pad_id] for row in model.place_images(inputs["input_ids"], inputs["pixel_values"])]
    endless = greedy_text(model, rows, max_new_tokens=12)
    stop = endless[0][4]  # a token that the first row is sure to meet
    stopped = greedy_text(model, rows, max_new_tokens=12, stop_id=stop)
    assert stopped == [row[: row.index(stop)] if stop in row else row for row in endless]
    assert len({len(row) for row in stopped}) > 1
    assert [greedy_text(model, [row], 12, stop)[0] for row in rows] == stopped


def test_mistakes_in_calls_are_said(model: UniFaceForConditionalGeneration, config: UniFaceConfig) -> None:
    pixels = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"\[0\] image places.*must have 16"):
        model(torch.ones(1, 5, dtype=torch.int64), pixel_values=pixels)
    with pytest.raises(ValueError, match=r"3 codes.*4 x 4 takes 16"):
        model.decode_images(torch.zeros(1, 3, dtype=torch.int64))
    cache = DynamicCache(config=config.backbone_config)
    with torch.inference_mode():
        model(torch.ones(1, 5, dtype=torch.int64), past_key_values=cache, use_cache=True)
        with pytest.raises(ValueError, match="attention_mask"):
            model(torch.ones(1, 1, dtype=torch.int64), past_key_values=cache, use_cache=True)
    with pytest.raises(ValueError, match="one entry a level"):
        MagvitV2Config(encoder_blocks=[1, 2])
    with pytest.raises(ValueError, match="multiple of 16"):
        MagvitV2Config(image_size=100)


def test_a_prompt_that_is_too_long_keeps_its_end_token(config: UniFaceConfig) -> None:
    ids = generation_ids(config, list(range(2, 40)))
    assert len(ids) == config.max_text_length + config.num_image_tokens + 3
    assert ids[config.max_text_length] == config.eos_token_id
    assert config.pad_id not in ids


def test_full_size_has_show_os_number_of_parameters() -> None:
    with torch.device("meta"):
        model = UniFaceForConditionalGeneration(UniFaceConfig())
    assert model.config.vocab_size == 58_498
    assert sum(p.numel() for p in model.showo.parameters()) == 1_448_176_770
    assert sum(p.numel() for p in model.magvit.parameters()) == 95_387_004
    assert len(model.showo.state_dict()) == 437
    assert len(model.magvit.state_dict()) == 382
