"""Probabilities of answers, against plain sums over the model's own logits."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.scoring import score_answers


@pytest.fixture
def rows(numbers: Mapping[str, Tensor]) -> list[Tensor]:
    return [numbers[f"mmu.{question}.input_ids"] for question in range(3)]


def plain(model: UniFaceForConditionalGeneration, row: Tensor, answer: list[int]) -> float:
    """log P(answer | row), a token at a time over the whole row."""
    total = 0.0
    for token in answer:
        logits = model(row[None]).logits[0, -1, : model.config.text_vocab_size]
        total += float(logits.log_softmax(-1)[token])
        row = torch.cat([row, torch.tensor([token])])
    return total


@pytest.mark.parametrize(
    ("yes", "no"), [([[7]], [[9]]), ([[7], [8]], [[9], [10]]), ([[7, 3, 3], [8]], [[7, 4], [9, 2]])]
)
def test_probabilities_are_the_models_own(
    model: UniFaceForConditionalGeneration, rows: list[Tensor], yes: list[list[int]], no: list[list[int]]
) -> None:
    scores = score_answers(model, rows, yes, no)
    with torch.inference_mode():
        for index, row in enumerate(rows):
            p_yes, p_no = (sum(torch.tensor(plain(model, row, one)).exp() for one in answer) for answer in (yes, no))
            torch.testing.assert_close(scores.raw[index], p_yes, rtol=1e-4, atol=0)
            torch.testing.assert_close(scores.normalised[index], p_yes / (p_yes + p_no), rtol=1e-4, atol=0)


def test_all_answers_together_are_certain(model: UniFaceForConditionalGeneration, rows: list[Tensor]) -> None:
    every = [[token] for token in range(model.config.text_vocab_size)]
    scores = score_answers(model, rows, every[:100], every[100:])
    torch.testing.assert_close(scores.log_yes.exp() + scores.log_no.exp(), torch.ones(3))
    torch.testing.assert_close(scores.normalised, scores.raw)


def test_a_score_is_the_same_whatever_is_beside_it(model: UniFaceForConditionalGeneration, rows: list[Tensor]) -> None:
    together = score_answers(model, rows, [[7]], [[9]]).normalised
    for order in itertools.permutations(range(3), 2):
        some = score_answers(model, [rows[index] for index in order], [[7]], [[9]]).normalised
        torch.testing.assert_close(some, together[list(order)], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("yes", "no"), [([], [[1]]), ([[1]], [[]]), ([[1]], [[1]]), ([[1]], [[1, 2]])])
def test_answers_that_cannot_be_told_apart_are_refused(
    model: UniFaceForConditionalGeneration, rows: list[Tensor], yes: list[list[int]], no: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match="none the beginning of another"):
        score_answers(model, rows, yes, no)
