"""Answers in slots: the tokens of the plain loop, whoever else is in the batch."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loops import mmu_loop
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.pictures import read_pictures
from uniface_ray.engine.sampling import Sampling
from uniface_ray.engine.slots import SlotCache
from uniface_ray.engine.text import TextRunner, TextSequence
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import understanding_ids

BOTH = pytest.mark.parametrize("folder", ["dense", "with_experts"], indirect=True)
COUNT = 18
NEAR_TIE = 1e-4


def sequences(model: UniFaceForConditionalGeneration, sampling: Sampling | None = None) -> list[TextSequence]:
    """Questions of many lengths about eight images, answers of many lengths."""
    generator = torch.Generator().manual_seed(0)
    chance = random.Random(0)
    pictures = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator).numpy()
    return [
        TextSequence(
            id=number,
            image=bytes([number % 8]),
            picture=pictures[number % 8],
            prompt=[0, *chance.choices(range(1, 300), k=chance.randint(1, 40))],
            max_new_tokens=chance.randint(1, 20),
            stop_ids=frozenset(chance.choices(range(300), k=4)),
            sampling=sampling or Sampling(),
            seed=number,
        )
        for number in range(COUNT)
    ]


@torch.inference_mode()
def answers(
    model: UniFaceForConditionalGeneration, asked: Sequence[TextSequence], slots: int, most_entering: int = 100
) -> list[list[int]]:
    """Tokens of each sequence."""
    lane = Lane(TextRunner(model, slots), slots, most_entering)
    for one in asked:
        lane.scheduler.add(one)
    ended = set()
    while len(lane):
        for one, reject in lane.step():
            assert reject is None
            ended.add(one.id)
    assert ended == {one.id for one in asked}
    return [one.tokens for one in asked]


@torch.inference_mode()
def disagreements(model: UniFaceForConditionalGeneration, asked: Sequence[TextSequence]) -> int:
    """Answers that differ from the plain loop's; all of them must part at a near tie."""
    different = 0
    for one in asked:
        codes, features = read_pictures(model, [one.picture])
        ids = understanding_ids(model.config, one.prompt[1:], codes[0])
        expected, gaps = mmu_loop(model, ids, one.max_new_tokens, one.stop_ids, features)
        if expected != one.tokens:
            parted = next((i for i, pair in enumerate(zip(expected, one.tokens, strict=False)) if len(set(pair)) > 1))
            assert gaps[parted] < NEAR_TIE
            different += 1
    return different


@BOTH
@pytest.mark.parametrize(("slots", "most_entering"), [(1, 1), (5, 2), (64, 64)])
def test_tokens_are_those_of_the_plain_loop(
    model: UniFaceForConditionalGeneration, slots: int, most_entering: int
) -> None:
    asked = sequences(model)
    answers(model, asked, slots, most_entering)
    assert len({len(one.tokens) for one in asked}) > 5
    assert disagreements(model, asked) == 0


def test_drawn_tokens_depend_on_the_seed_and_not_on_the_batch(model: UniFaceForConditionalGeneration) -> None:
    hot = Sampling(temperature=1.5, top_p=0.9)
    together, alone = (answers(model, sequences(model, hot), slots) for slots in (64, 1))
    turned = answers(model, sequences(model, hot)[::-1], 6)[::-1]
    assert together == alone == turned
    assert together != answers(model, sequences(model), 64)


@BOTH
def test_an_image_is_computed_once_for_all_questions_about_it(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sorted(sequences(model), key=lambda one: one.image)
    computed: list[int] = []
    hidden_states = model.hidden_states

    def counted(ids: Tensor, **arguments: object) -> object:
        if bool((ids == model.config.special_id("<|eoi|>")).any()):
            computed.append(len(ids))
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", counted)
    answers(model, asked, slots=4)
    assert sum(computed) == 8
    assert disagreements(model, asked) == 0


def test_room_that_a_long_answer_needed_is_given_back(model: UniFaceForConditionalGeneration) -> None:
    short, others = sequences(model)[:6], sequences(model)[6:12]
    long = replace(sequences(model)[12], max_new_tokens=400, stop_ids=frozenset())
    runner = TextRunner(model, 6)
    lane = Lane(runner, 6, 6)
    rooms: list[int] = []
    with torch.inference_mode():
        for some in (short, [long], others):
            for one in some:
                lane.scheduler.add(one)
            while len(lane):
                assert all(reject is None for _, reject in lane.step())
            rooms.append(runner.cache.room)
            assert {states.shape[2] for states in runner.cache.states} == {rooms[-1]}
    assert rooms[0] == rooms[2] < 400 < rooms[1]
    assert disagreements(model, short + others) == 0


def test_room_grows_a_layer_at_a_time_or_not_at_all(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SlotCache(model.config.backbone_config, 3, model.dtype, model.device)
    cache.reserve(60)
    before = [states.normal_().clone() for states in cache.states]
    moves = cache.moves
    widths: list[list[int]] = []
    pad = F.pad

    def limited(states: Tensor, more: Sequence[int]) -> Tensor:
        widths.append([states.shape[2] for states in cache.states])
        if more[-1] > 0 and len(widths) == 3:
            raise torch.OutOfMemoryError("full")
        return pad(states, more)

    monkeypatch.setattr(F, "pad", limited)
    with pytest.raises(torch.OutOfMemoryError):
        cache.reserve(100)
    assert widths[:3] == [[64, 64, 64, 64], [128, 64, 64, 64], [128, 128, 64, 64]]
    assert cache.room == 64
    assert cache.moves > moves  # two layers are elsewhere now: what was recorded must not be replayed
    assert all(torch.equal(one, other) for one, other in zip(cache.states, before, strict=True))
    cache.reserve(100)
    assert cache.room == 128
    assert all(torch.equal(one[:, :, :64], other) for one, other in zip(cache.states, before, strict=True))


def test_slots_are_full_while_somebody_waits(model: UniFaceForConditionalGeneration) -> None:
    lane = Lane(TextRunner(model, 4), 4, 4)
    for one in sequences(model):
        lane.scheduler.add(one)
    with torch.inference_mode():
        while lane.scheduler.waiting:
            waiting, running = len(lane.scheduler.waiting), len(lane.scheduler.running)
            ended = lane.step()
            entered = waiting - len(lane.scheduler.waiting)
            assert running + entered == min(4, running + waiting)  # who left in one step was replaced in the next
            assert len(lane.scheduler.running) == running + entered - len(ended)


@pytest.mark.parametrize(("pictures", "running"), [(1, [10]), (2, [5, 10]), (10, [1, 2, 3])])
def test_a_picture_asked_about_again_takes_no_part_of_what_a_step_may_compute(
    model: UniFaceForConditionalGeneration, pictures: int, running: list[int]
) -> None:
    runner = TextRunner(model, 16)
    lane = Lane(runner, 16, lambda waiting: runner.most_entering(waiting, runner.prefix + 10))
    template = sequences(model)[0]
    for number in range(10):
        picture = number * pictures // 10
        one = replace(template, id=number, image=bytes([picture]), prompt=[0, 1], max_new_tokens=9)
        lane.scheduler.add(replace(one, stop_ids=frozenset(), tokens=[]))
    with torch.inference_mode():
        for count in running:
            lane.step()
            assert len(lane.scheduler.running) == count


def test_a_request_that_is_dropped_frees_its_slot(model: UniFaceForConditionalGeneration) -> None:
    lane = Lane(TextRunner(model, 3), 3, 3)
    asked = [one for one in sequences(model) if one.max_new_tokens > 3][:6]
    for one in asked:
        lane.scheduler.add(one)
    with torch.inference_mode():
        lane.step()
        lane.drop(lambda one: one.id in (asked[0].id, asked[5].id))
        assert (len(lane.scheduler.running), len(lane.scheduler.waiting)) == (2, 2)
        lane.step()
        assert asked[3] in lane.scheduler.running
        while len(lane):
            lane.step()
    assert disagreements(model, asked[1:5]) == 0


def test_a_row_that_fails_on_the_way_costs_no_other(
    model: UniFaceForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = answers(model, sequences(model), 8)
    counted = Counter(token for tokens in good for token in set(tokens[:-1]))
    poison = next(token for token, count in counted.most_common() if count < 6)
    hidden_states = model.hidden_states

    def poisoned(ids: Tensor, **arguments: object) -> object:
        if ids.shape[1] == 1 and bool((ids == poison).any()):
            raise ValueError("poison")
        return hidden_states(ids, **arguments)

    monkeypatch.setattr(model, "hidden_states", poisoned)
    asked = sequences(model)
    lane = Lane(TextRunner(model, 8), 8, 4)
    for one in asked:
        lane.scheduler.add(one)
    rejects: dict[int, Reject] = {}
    with torch.inference_mode():
        while len(lane):
            rejects |= {one.id: reject for one, reject in lane.step() if reject}
    assert rejects.keys() == {number for number, tokens in enumerate(good) if poison in tokens[:-1]}
    assert {(one.kind, one.message) for one in rejects.values()} == {(RejectKind.MODEL_ERROR, "ValueError: poison")}
    assert all(one.tokens == tokens for one, tokens in zip(asked, good, strict=True) if one.id not in rejects)


@pytest.mark.parametrize("folder", ["with_experts"], indirect=True)
def test_no_answer_waits_for_the_device_before_its_token_is_read(on_meta: UniFaceForConditionalGeneration) -> None:
    asked = sequences(on_meta, Sampling(temperature=1.0))[:6]
    runner = TextRunner(on_meta, 6)
    with torch.inference_mode():
        runner.enter(asked, 0)
        runner.advance(asked, 0)
        with pytest.raises(NotImplementedError, match="out of meta tensor"):
            runner.collect()
