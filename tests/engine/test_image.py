"""Images in slots: the codes of images drawn alone, whoever else is in the batch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.image import ImageRunner, ImageSequence
from uniface_ray.engine.lane import Lane
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.pixels import to_model_range

SETTINGS = [
    DrawSettings(steps=5, guidance=4),
    DrawSettings(steps=2, guidance=0),
    DrawSettings(steps=9, guidance=1.5, top_k=20, temperature=0.5),
    DrawSettings(steps=1, guidance=0, schedule="linear"),
]


def sequences(count: int = 10) -> list[ImageSequence]:
    """Prompts, seeds and settings that differ; the last one is an edit."""
    requests = [DrawRequest(range(3, 3 + i % 7), seed=i, settings=SETTINGS[i % len(SETTINGS)]) for i in range(count)]
    some = [ImageSequence(number, request) for number, request in enumerate(requests)]
    some[-1].picture = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    some[-1].request = replace(some[-1].request, unknown=torch.arange(64) % 3 == 0)
    return some


@torch.inference_mode()
def drawn(
    model: UniFaceForConditionalGeneration, some: list[ImageSequence], slots: int, most_entering: int
) -> dict[int, Tensor | Reject]:
    lane = Lane(ImageRunner(model), slots, most_entering)
    for one in some:
        lane.scheduler.add(one)
    outcomes: dict[int, Tensor | Reject] = {}
    while len(lane):
        for one, reject in lane.step():
            outcomes[one.id] = reject or one.codes
    assert lane.runner.drawing is None
    return outcomes


@pytest.fixture(scope="module")
def alone(model: UniFaceForConditionalGeneration) -> list[Tensor]:
    """Codes of each image of `sequences`, drawn by itself."""
    codes = []
    for one in sequences():
        request = one.request
        if one.picture is not None:
            request = replace(
                request, codes=model.encode_images(to_model_range(torch.from_numpy(one.picture))[None])[0]
            )
        codes.append(draw(model, [request])[0])
    return codes


@pytest.mark.parametrize("folder", ["dense", "with_experts"], indirect=True)
@pytest.mark.parametrize(("slots", "most_entering"), [(1, 1), (3, 2), (16, 16)])
def test_an_image_does_not_depend_on_its_neighbours(
    model: UniFaceForConditionalGeneration, alone: list[Tensor], slots: int, most_entering: int
) -> None:
    outcomes = drawn(model, sequences(), slots, most_entering)
    assert sorted(outcomes) == list(range(10))
    for number, codes in enumerate(alone):
        assert torch.equal(outcomes[number], codes)


def test_an_edit_keeps_the_known_codes(model: UniFaceForConditionalGeneration, alone: list[Tensor]) -> None:
    edit = sequences()[-1]
    before = model.encode_images(to_model_range(torch.from_numpy(edit.picture))[None])[0]
    assert torch.equal(alone[-1][~edit.request.unknown], before[~edit.request.unknown])


def test_the_empty_prompt_is_computed_once(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[int] = []
    hidden_states = model.hidden_states

    def counted(ids: Tensor, **arguments: Any) -> Any:
        is_image = (ids == model.config.special_id("<|soi|>")).any(1)
        prompts.extend((ids[~is_image] != model.config.pad_id).sum(1).tolist())
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", counted)
    drawn(model, [one for one in sequences() if len(one.request.text_ids)], slots=2, most_entering=1)
    assert prompts.count(3) == 1  # <|t2i|> <bos> <eos>


def test_rows_that_fail_cost_no_other_and_a_second_try_draws_the_same(
    model: UniFaceForConditionalGeneration, alone: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden_states = model.hidden_states

    def limited(ids: Tensor, **arguments: Any) -> Any:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("no room")
        if bool((ids == 77).any()):
            raise ValueError("poison")
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", limited)
    some = sequences()
    some[1:1] = [ImageSequence(100, DrawRequest([5, 77], seed=1, settings=SETTINGS[0]))]
    outcomes = drawn(model, some, 16, 16)
    bad = outcomes.pop(100)
    assert isinstance(bad, Reject)
    assert (bad.kind, bad.message) == (RejectKind.MODEL_ERROR, "ValueError: poison")
    assert all(torch.equal(outcomes[number], codes) for number, codes in enumerate(alone))


@pytest.mark.parametrize("folder", ["with_experts"], indirect=True)
def test_steps_never_wait_for_the_device(on_meta: UniFaceForConditionalGeneration) -> None:
    some = sequences()
    runner = ImageRunner(on_meta)
    with torch.inference_mode():
        runner.enter(some, 0)
        for _ in range(3):
            runner.advance(some, 0)
    with pytest.raises(NotImplementedError, match="out of meta tensor"):
        runner.drawing.codes.tolist()
