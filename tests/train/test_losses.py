"""Losses of a batch: the model's own, whoever computes which part of it."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.train.tokens import settings, tokenized
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.train_config import LossConfig
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.d3diff import D3DiffConfig, d3diff
from uniface_ray.train.batches import Batch, Counts
from uniface_ray.train.losses import LOSSES, Trainee
from uniface_ray.train.mixture import Mixture
from uniface_ray.train.shards import Shards


@pytest.fixture(scope="module")
def model(toy: Path) -> UniFaceForConditionalGeneration:
    return UniFaceForConditionalGeneration.from_pretrained(toy)


def parts(tokens: Path, toy: Path, accumulation: int = 1) -> list[Batch]:
    config = settings(tokens, toy, tokens, "data.batch_size=12", f"parallel.accumulation={accumulation}")
    shards = Shards(str(tokens), StorageConfig(), UniFaceConfig.from_pretrained(toy), 0.2, "row_id")
    mixture = Mixture(config, shards, UniFaceProcessor.from_pretrained(toy), 0, 1)
    (share,) = islice(mixture.shares(config.stages.each()[0], {}), 1)
    return share.parts


def test_losses_are_those_of_the_model_and_of_d3diff(
    tokens: Path, toy: Path, model: UniFaceForConditionalGeneration
) -> None:
    (batch,) = parts(tokens, toy)
    found = dict(zip(LOSSES, Trainee(model, LossConfig(drawing_weight=0.5))(batch, batch.counts), strict=True))
    assert batch.read is not None
    assert batch.draw is not None
    features = model.encoders.resampled(batch.read.seen)
    with torch.no_grad():
        logits = model(batch.read.ids, features=features).logits[..., : model.config.text_vocab_size]
        text = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.read.targets.flatten())
        image = slice(-model.config.num_image_tokens - 1, -1)
        hidden = model.hidden_states(batch.draw.ids).last_hidden_state[:, image]
        drawing = d3diff(model.image_logits(hidden), batch.draw.labels, batch.draw.share, D3DiffConfig())
    torch.testing.assert_close(found["text"], text)
    torch.testing.assert_close(found["mask"], drawing.mask)
    torch.testing.assert_close(found["score"], drawing.score)
    weight = model.config.token_experts.balance_weight
    torch.testing.assert_close(found["total"], text + 0.5 * drawing.total + weight * found["balance"])


@pytest.mark.parametrize("kind", ["mask", "score", "d3diff"])
def test_parts_add_up_to_the_whole(tokens: Path, toy: Path, model: UniFaceForConditionalGeneration, kind: str) -> None:
    trainee = Trainee(model, LossConfig(kind=kind, balance_weight=0.0, alpha=0.1))
    (whole,), some = parts(tokens, toy), parts(tokens, toy, 4)
    counts = sum((part.counts for part in some), Counts(parts=0))
    assert counts.parts == 4
    assert counts.text == whole.counts.text
    with torch.no_grad():
        one, many = trainee(whole, whole.counts), sum(trainee(part, counts) for part in some)
    torch.testing.assert_close(one[:4], many[:4], rtol=1e-4, atol=1e-4)


def test_the_full_vocabulary_can_be_normalised_over(
    tokens: Path, toy: Path, model: UniFaceForConditionalGeneration
) -> None:
    (batch,) = parts(tokens, toy)
    codes = Trainee(model, LossConfig())(batch, batch.counts)
    full = Trainee(model, LossConfig(vocabulary="full"))(batch, batch.counts)
    assert full[LOSSES.index("mask")] > codes[LOSSES.index("mask")]  # some of its mass lies outside


def test_what_encoders_see_is_what_was_kept_of_it(
    tokens: Path, toy: Path, tmp_path: Path, portraits: list[bytes], model: UniFaceForConditionalGeneration
) -> None:
    kept = tokenized(tmp_path, toy, portraits, 60, "task.keep=pixels")
    (features,), (pixels,) = parts(tokens, toy), parts(kept, toy)
    assert features.read is not None
    assert pixels.read is not None
    assert features.row_ids == pixels.row_ids
    assert set(pixels.read.seen) == {"pixels"}
    trainee = Trainee(model.eval(), LossConfig())
    torch.testing.assert_close(trainee(features, features.counts), trainee(pixels, pixels.counts), rtol=1e-3, atol=1e-2)
