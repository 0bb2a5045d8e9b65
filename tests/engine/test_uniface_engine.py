"""The engine of our own model, on random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.protocol import Ask, Result, Text
from uniface_ray.engine.uniface import UniFaceEngine


@pytest.fixture
def requests() -> list[Ask]:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    return [Ask(one, "q" * index, max_new_tokens=4 + index, seed=index) for index, one in enumerate(pixels)]


def texts(outcomes: list[Result | Reject]) -> list[str]:
    assert all(isinstance(one, Text) for one in outcomes)
    return [one.text for one in outcomes if isinstance(one, Text)]


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


def test_a_batch_too_large_for_memory_is_split(
    folder: Path, requests: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = UniFaceEngine(folder, batch_size=7)
    good = texts(engine.run(requests))
    hidden_states = engine.model.hidden_states

    def limited(ids: torch.Tensor, **arguments: Any) -> Any:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("no room")
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(engine.model, "hidden_states", limited)
    assert texts(engine.run(requests)) == good


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


def test_a_replica_that_answers_nothing_is_broken_rather_than_its_rows(folder: Path, requests: list[Ask]) -> None:
    engine = UniFaceEngine(folder, batch_size=7)
    engine.model.showo.lm_head.weight.data = torch.zeros(3, 3)
    with pytest.raises(UniFaceError, match="answers none of 7 requests"):
        engine.run(requests)


def test_no_requests_no_results(folder: Path) -> None:
    assert UniFaceEngine(folder).run([]) == []
