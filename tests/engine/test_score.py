"""Probabilities of answers, against plain sums over the model's own logits."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from uniface_ray.engine.lane import Lane
from uniface_ray.engine.score import ScoreRunner, ScoreSequence
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import understanding_ids

LONG = ([[7, 3, 3], [8], [9, 2, 4]], [[7, 4], [9, 3]])


def questions(model: UniFaceForConditionalGeneration, count: int = 7) -> list[ScoreSequence]:
    """Of several lengths, about three images."""
    chance, generator = random.Random(0), torch.Generator().manual_seed(0)
    codes = torch.randint(model.config.codebook_size, (3, model.config.num_image_tokens), generator=generator)
    return [
        ScoreSequence(
            id=number,
            image=bytes([number % 3]),
            picture=codes[number % 3],
            prompt=[0, *chance.choices(range(1, 300), k=chance.randint(1, 30))],
            max_new_tokens=3,
            stop_ids=frozenset(),
        )
        for number in range(count)
    ]


@torch.inference_mode()
def scored(
    model: UniFaceForConditionalGeneration, asked: Sequence[ScoreSequence], yes: Any, no: Any, slots: int = 4
) -> list[tuple[float, float, float]]:
    lane = Lane(ScoreRunner(model, slots, yes, no), slots, slots)
    for one in asked:
        lane.scheduler.add(one)
    while len(lane):
        assert not any(reject for _, reject in lane.step())
    return [(one.log_yes, one.log_no, one.score) for one in asked]


@torch.inference_mode()
def plain(model: UniFaceForConditionalGeneration, one: ScoreSequence, answer: Sequence[int]) -> Tensor:
    """P(answer | question), a token at a time over the whole row."""
    row, total = understanding_ids(model.config, one.prompt[1:], one.picture), torch.zeros(())
    for token in answer:
        logits = model(row[None]).logits[0, -1, : model.config.text_vocab_size]
        total = total + logits.log_softmax(-1)[token]
        row = torch.cat([row, torch.tensor([token])])
    return total.exp()


@pytest.mark.parametrize(("yes", "no"), [([[7]], [[9]]), ([[7], [8]], [[9], [10]]), LONG])
def test_probabilities_are_the_models_own(
    model: UniFaceForConditionalGeneration, yes: list[list[int]], no: list[list[int]]
) -> None:
    asked = questions(model)
    for one, (log_yes, log_no, score) in zip(asked, scored(model, asked, yes, no), strict=True):
        p_yes, p_no = (sum(float(plain(model, one, spelling)) for spelling in spellings) for spellings in (yes, no))
        expected = torch.tensor([p_yes, p_no, p_yes / (p_yes + p_no)])
        found = torch.tensor([log_yes, log_no, 0.0]).exp().index_fill(0, torch.tensor([2]), score)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_all_answers_together_are_certain(model: UniFaceForConditionalGeneration) -> None:
    every = [[token] for token in range(model.config.text_vocab_size)]
    for log_yes, log_no, score in scored(model, questions(model), every[:100], every[100:]):
        p_yes, p_no = torch.tensor([log_yes, log_no]).exp().tolist()
        assert p_yes + p_no == pytest.approx(1, abs=1e-5)
        assert score == pytest.approx(p_yes, abs=1e-5)


def test_a_score_is_the_same_whatever_is_beside_it(model: UniFaceForConditionalGeneration) -> None:
    together, alone = (scored(model, questions(model), *LONG, slots=slots) for slots in (7, 1))
    turned = scored(model, questions(model)[::-1], *LONG, slots=3)[::-1]
    for other in (alone, turned):
        torch.testing.assert_close(torch.tensor(other), torch.tensor(together), atol=1e-5, rtol=0)


def test_an_image_is_read_once_for_all_questions_and_spellings(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[int] = []
    hidden_states = model.hidden_states

    def counted(ids: Tensor, **arguments: Any) -> Any:
        images.extend([1] * int((ids == model.config.special_id("<|soi|>")).sum()))
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", counted)
    scored(model, questions(model), *LONG)
    assert len(images) == 3


@pytest.mark.parametrize(("yes", "no"), [([], [[1]]), ([[1]], [[]]), ([[1]], [[1]]), ([[1]], [[1, 2]])])
def test_answers_that_cannot_be_told_apart_are_refused(
    model: UniFaceForConditionalGeneration, yes: list[list[int]], no: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match="none the beginning of another"):
        ScoreRunner(model, 1, yes, no)
