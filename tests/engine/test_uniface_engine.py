"""The engine of our own model, on random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.test_text import BOTH
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Likelihood, Request, Result, Score, Text
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceForConditionalGeneration


@pytest.fixture
def requests() -> list[Ask]:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    return [Ask(one, "q" * index, max_new_tokens=4 + index, seed=index) for index, one in enumerate(pixels)]


def texts(outcomes: list[Result | Reject]) -> list[str]:
    assert all(isinstance(one, Text) for one in outcomes)
    return [one.text for one in outcomes if isinstance(one, Text)]


@BOTH
def test_an_answer_does_not_depend_on_its_neighbours(folder: Path, requests: list[Ask]) -> None:
    together = UniFaceEngine(folder, batch_size=7).run(requests)
    alone = [UniFaceEngine(folder, batch_size=1).run([request])[0] for request in requests]
    turned = UniFaceEngine(folder, batch_size=3).run(requests[::-1])[::-1]
    assert texts(together) == texts(alone) == texts(turned)
    assert len(set(texts(together))) > 1


def test_no_answer_is_longer_than_its_own_limit(folder: Path, requests: list[Ask]) -> None:
    outcomes = UniFaceEngine(folder).run(requests)
    for request, outcome in zip(requests, outcomes, strict=True):
        assert isinstance(outcome, Text)
        assert outcome.tokens <= request.max_new_tokens


def test_a_request_that_fails_costs_no_other(folder: Path, requests: list[Ask]) -> None:
    engine = UniFaceEngine(folder, batch_size=7)
    good = texts(engine.run(requests))
    requests[3] = Ask(np.zeros((3, 5, 5), np.uint8), "?", 4, 0)  # no picture of the model's size
    outcomes = engine.run(requests)
    bad = outcomes.pop(3)
    assert isinstance(bad, Reject)
    assert (bad.kind, bad.stage) == (RejectKind.BAD_REQUEST, "engine")
    assert "(3, 5, 5)" in bad.message
    assert texts(outcomes) == good[:3] + good[4:]


def test_a_question_that_does_not_fit_the_model_is_refused(folder: Path, requests: list[Ask]) -> None:
    too_long = Ask(requests[0].pixels, "q" * 10, max_new_tokens=3000, seed=0)
    refused, answered = UniFaceEngine(folder).run([too_long, requests[0]])
    assert isinstance(refused, Reject)
    assert refused.kind == RejectKind.BAD_REQUEST
    assert "this model has 2048" in refused.message
    assert isinstance(answered, Text)


@BOTH
def test_a_batch_too_large_for_memory_is_split(
    folder: Path, requests: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = UniFaceEngine(folder, batch_size=7)
    good = texts(engine.run(requests))
    hidden_states = engine.model.hidden_states

    def limited(ids: torch.Tensor, **arguments: Any) -> Any:
        if len(ids) > 3:
            full.append(len(ids))
            raise torch.OutOfMemoryError("no room")
        return hidden_states(ids, **arguments)

    full: list[int] = []
    monkeypatch.setattr(engine.model, "hidden_states", limited)
    assert texts(engine.run(requests)) == good
    assert 0 < len(full) < 5  # what fits is remembered


def test_a_cancelled_request_gives_no_outcome(folder: Path, requests: list[Ask]) -> None:
    engine = UniFaceEngine(folder, batch_size=2)
    good = texts(engine.run(requests))
    numbers = [engine.submit(request) for request in requests]
    outcomes = dict(engine.step())
    for cancelled in (numbers[0], numbers[6], numbers[6], 10**6):  # one that runs, one that waits, and no such one
        engine.cancel(cancelled)
    while len(outcomes) < 5:
        outcomes |= engine.step()
    assert [outcomes.get(number) and outcomes[number].text for number in numbers] == [None, *good[1:6], None]


def test_lower_precision_keeps_the_image_codes_and_the_rotary_angles(folder: Path) -> None:
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    models = [UniFaceEngine(folder, dtype=dtype).model for dtype in ("float32", "bfloat16")]
    assert torch.equal(*(model.encode_images(pixels) for model in models))
    assert torch.equal(*(model.showo.model.rotary_emb.inv_freq for model in models))
    assert models[1].showo.lm_head.weight.dtype == torch.bfloat16


def test_a_model_comes_to_its_device_in_its_precision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.dtype] = []
    move = UniFaceForConditionalGeneration.to

    def noted(self: UniFaceForConditionalGeneration, *arguments: Any, **named: Any) -> Any:
        moved.append(self.showo.lm_head.weight.dtype)
        return move(self, *arguments, **named)

    monkeypatch.setattr(UniFaceForConditionalGeneration, "to", noted)
    UniFaceEngine(folder, dtype="bfloat16")
    assert moved == [torch.bfloat16]


def test_the_image_tokenizer_computes_the_same_in_the_layout_that_suits_a_cpu(folder: Path) -> None:
    plain = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ours = UniFaceEngine(folder).model
    assert ours.magvit.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    pixels = torch.rand(3, 3, 32, 32) * 2 - 1
    codes = plain.encode_images(pixels)
    assert torch.equal(ours.encode_images(pixels), codes)
    torch.testing.assert_close(ours.decode_images(codes), plain.decode_images(codes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 20])
def test_a_replica_that_answers_nothing_is_broken_rather_than_its_rows(folder: Path, batch_size: int) -> None:
    engine = UniFaceEngine(folder, batch_size=batch_size)
    engine.model.showo.lm_head.weight.data = torch.zeros(3, 3)
    pictures = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    with pytest.raises(UniFaceError, match=r"answers none of .* requests one after the other"):
        engine.run([Ask(one, "?", 4) for one in pictures])


def test_no_requests_no_results(folder: Path) -> None:
    assert UniFaceEngine(folder).run([]) == []


def kinds(pixels: np.ndarray) -> list[Request]:
    """Questions, prompts, an edit and a statement."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    draws = [Draw(f"prompt {i}", i, steps=3 + i, guidance=2.0 * i, temperature=1, schedule="cosine") for i in range(3)]
    edit = Draw("hat", 9, 4, 2, 1, "linear", top_k=30, top_p=0.9, pixels=pixels, mask=mask)
    part = Draw("p", 7, 6, 3, 1, "cosine", guidance_interval=(0.3, 0.7))
    warm = Ask(pixels, "and?", 9, seed=5, temperature=1.0, top_p=0.8)
    return [Ask(pixels, "who?", 6), *draws, edit, part, Score(pixels, "a cat"), warm, Score(pixels, "a young woman")]


def parts(outcome: Result | Reject) -> list[np.ndarray]:
    """Numbers of a result."""
    match outcome:
        case Text():
            return [np.frombuffer(outcome.text.encode(), np.uint8)]
        case Drawing():
            return [outcome.pixels]
        case Likelihood():
            return [np.array([outcome.score, outcome.log_yes, outcome.log_no])]
    raise AssertionError(outcome)


@BOTH
def test_requests_of_all_kinds_together_and_alone(folder: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    requests = kinds(pixels)
    engine = UniFaceEngine(folder)
    together = engine.run(requests)
    alone = [engine.run([request])[0] for request in requests]
    assert [type(one) for one in together] == [Text, *[Drawing] * 5, Likelihood, Text, Likelihood]
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(parts(one), parts(other), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    edited = together[4]
    assert isinstance(edited, Drawing)
    assert edited.pixels.shape == (3, 32, 32)
    np.testing.assert_array_equal(edited.pixels[:, 16:], pixels[:, 16:])
    assert not np.array_equal(edited.pixels[:, :16], pixels[:, :16])
    score = together[6]
    assert isinstance(score, Likelihood)
    assert 0 < score.score < 1
    assert score.log_yes < 0


@BOTH
def test_all_kinds_of_requests_are_answered_in_lower_precision(folder: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    outcomes = UniFaceEngine(folder, dtype="bfloat16").run(kinds(pixels))
    assert [type(one) for one in outcomes] == [Text, *[Drawing] * 5, Likelihood, Text, Likelihood]


def test_the_end_of_a_prompt_that_is_cut_is_told(folder: Path) -> None:
    long = "a young woman with dark hair " * 9
    whole, cut = UniFaceEngine(folder).run([Draw(text, 0, 1, 0, 1, "cosine") for text in ("dark hair", long)])
    assert isinstance(whole, Drawing)
    assert isinstance(cut, Drawing)
    assert whole.cut == ""
    assert cut.cut
    assert long.strip().endswith(cut.cut)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"schedule": "wavy"}, "wavy"),
        ({"pixels": np.zeros((3, 32, 32), np.uint8)}, "the mask is missing"),
        ({"pixels": np.zeros((3, 32, 32), np.uint8), "mask": np.zeros((32, 32), np.uint8)}, "enlarge the mask"),
        ({"pixels": np.zeros((3, 32, 32), np.float32)}, "the image is float32"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused(folder: Path, change: dict[str, Any], what: str) -> None:
    good: dict[str, Any] = {"prompt": "p", "seed": 0, "steps": 1, "guidance": 0, "temperature": 1, "schedule": "cosine"}
    refused, drawn = UniFaceEngine(folder).run([Draw(**(good | change)), Draw(**good)])
    assert isinstance(refused, Reject)
    assert refused.kind == RejectKind.BAD_REQUEST
    assert what in refused.message
    assert isinstance(drawn, Drawing)


def test_a_request_whose_time_is_over_is_given_up(folder: Path) -> None:
    pixels = np.zeros((3, 32, 32), np.uint8)
    engine = UniFaceEngine(folder)
    limited = [
        engine.submit(Ask(pixels, "?", 1500, time_limit_s=0.0)),
        engine.submit(Draw("p", 0, 60, 0, 1, "cosine", time_limit_s=0.0)),
    ]
    free = engine.submit(Ask(pixels, "?", 3))
    outcomes: dict[int, Any] = {}
    while len(outcomes) < 3:
        outcomes |= engine.step()
    assert [outcomes[number].kind for number in limited] == [RejectKind.TIMEOUT] * 2
    assert isinstance(outcomes[free], Text)
    assert engine.step() == []
