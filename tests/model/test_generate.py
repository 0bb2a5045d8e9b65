"""Text through transformers' own `generate`, with experts."""

import pytest
import torch
from torch import Tensor

from tests.model.toys import pixels, reading_rows, toy_model
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.prompts import left_pad, understanding_ids


@pytest.fixture(scope="module")
def model() -> UniFaceForConditionalGeneration:
    return toy_model()


@pytest.fixture(scope="module")
def prompts(model: UniFaceForConditionalGeneration) -> Tensor:
    """Three questions of different lengths, with places for their images."""
    return left_pad([understanding_ids(model.config, range(5, 6 + index)) for index in range(3)], model.config.pad_id)


def test_it_answers_as_greedy_text_does(model: UniFaceForConditionalGeneration, prompts: Tensor) -> None:
    rows, features = reading_rows(model, 3)
    expected = greedy_text(model, rows, 8, features=features)
    stop = expected[0][3]
    stopped = greedy_text(model, rows, 8, stop_id=stop, features=features)
    answers = model.generate(prompts, pixel_values=pixels(3), max_new_tokens=8, eos_token_id=None, do_sample=False)
    assert answers[:, prompts.shape[1] :].tolist() == expected
    answers = model.generate(prompts, pixel_values=pixels(3), max_new_tokens=8, eos_token_id=stop)
    for row, short in zip(answers[:, prompts.shape[1] :].tolist(), stopped, strict=True):
        assert row[: len(short)] == short
        assert set(row[len(short) :]) <= {stop, model.config.pad_id}


@pytest.mark.parametrize("how", [{"do_sample": True, "num_return_sequences": 2}, {"num_beams": 2}])
def test_sampling_and_beams_keep_to_text(
    model: UniFaceForConditionalGeneration, prompts: Tensor, how: dict[str, object]
) -> None:
    torch.manual_seed(0)
    answers = model.generate(prompts, pixel_values=pixels(3), max_new_tokens=6, eos_token_id=None, **how)
    assert len(answers) == 3 * how.get("num_return_sequences", 1)
    assert answers[:, prompts.shape[1] :].max() < model.config.text_vocab_size
