"""What is seen of a request before it is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniface_ray.core.records import Reject
from uniface_ray.engine import image
from uniface_ray.engine.image import ImageSequence
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Outcome, Request, Text
from uniface_ray.engine.turns import Turns
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model.drawing import DrawRequest

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)


def watch(engine: UniFaceEngine, requests: Sequence[Request]) -> list[tuple[list[Text | Drawing], Outcome]]:
    """Progress and outcome of each request."""
    numbers = [engine.submit(request) for request in requests]
    seen: dict[int, list[Text | Drawing]] = {number: [] for number in numbers}
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(requests):
        outcomes |= engine.step()
        for number, result in engine.progress():
            assert number not in outcomes
            seen[number].append(result)
    return [(seen[number], outcomes[number]) for number in numbers]


def test_a_watched_answer_grows_to_its_end_and_an_unwatched_one_is_not_told(folder: Path) -> None:
    (grown, whole), (nothing, same) = watch(
        UniFaceEngine(folder), [Ask(PIXELS, "who?", 8, watched=watched) for watched in (True, False)]
    )
    assert isinstance(whole, Text)
    assert (nothing, same) == ([], whole)
    assert [one.tokens for one in grown if isinstance(one, Text)] == list(range(1, whole.tokens))
    for before, after in zip(grown, [*grown[1:], whole], strict=True):
        assert isinstance(before, Text)
        assert isinstance(after, Text)
        assert after.text.startswith(before.text.rstrip("\ufffd"))
    assert whole.prompt_tokens > 64  # an image of 8 x 8 tokens, and the question


def test_unfinished_images_are_guesses_of_all_of_it_and_change_nothing(folder: Path) -> None:
    draw = Draw("a woman", 3, 6, 2.0, 1.0, "cosine")
    watched = Draw("a woman", 3, 6, 2.0, 1.0, "cosine", partials=2)
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    edit = Draw("a hat", 3, 4, 2.0, 1.0, "cosine", pixels=PIXELS, mask=mask, partials=9)
    (none, plain), (guesses, drawn), (edits, edited) = watch(UniFaceEngine(folder), [draw, watched, edit])
    assert none == []
    assert (len(guesses), len(edits)) == (2, 3)  # of 4 steps, the last one is the image itself
    assert isinstance(plain, Drawing)
    assert isinstance(drawn, Drawing)
    assert isinstance(edited, Drawing)
    np.testing.assert_array_equal(plain.pixels, drawn.pixels)
    for guess in guesses:
        assert isinstance(guess, Drawing)
        assert not np.array_equal(guess.pixels, drawn.pixels)
    for guess in edits:
        assert isinstance(guess, Drawing)
        np.testing.assert_array_equal(guess.pixels[:, 16:], PIXELS[:, 16:])


@pytest.mark.parametrize(
    ("partials", "steps", "shown"),
    [(0, 5, []), (1, 4, [2]), (2, 9, [3, 6]), (3, 18, [5, 9, 14]), (7, 3, [1, 2]), (2, 1, [])],
)
def test_unfinished_images_part_the_way_evenly(partials: int, steps: int, shown: list[int]) -> None:
    one = ImageSequence(0, DrawRequest([], 0), partials=partials)
    assert [step for step in range(1, steps + 1) if one.is_shown(step, steps)] == shown


def test_a_cancelled_image_is_seen_no_more(folder: Path) -> None:
    engine = UniFaceEngine(folder)
    number = engine.submit(Draw("a", 0, 8, 0, 1.0, "cosine", partials=7))
    engine.step()
    assert engine.progress()
    engine.cancel(number)
    assert engine.step() == []
    assert engine.progress() == []


def test_an_image_that_fails_while_a_guess_of_it_waits_costs_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = UniFaceEngine(folder)
    numbers = [engine.submit(Draw("a", seed, 3, 0, 1.0, "cosine", partials=2)) for seed in range(20)]
    assert engine.step() == []  # a guess of each: more than are decoded in two steps
    step = image.step

    def poisoned(model: Any, drawing: Any) -> None:
        if any(row.generator.initial_seed() == 19 for row in drawing.rows):
            raise ValueError("poison")
        step(model, drawing)

    monkeypatch.setattr(image, "step", poisoned)
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < 20:
        outcomes |= engine.step()
    assert [type(outcomes[number]) for number in numbers] == [Drawing] * 19 + [Reject]
    assert engine.step() == []


def test_drawing_waits_until_answers_had_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    turns = Turns(0.25, torch.device("cpu"))
    order = []
    for _ in range(12):
        with turns.answering():
            now[0] += 1.0
        if turns.may_draw(5):
            order.append("draw")
            with turns.drawing():
                now[0] += 2.0
        else:
            order.append("answer")
    assert order == ["draw", *(["answer"] * 5 + ["draw"])] + ["answer"] * 5  # 2 s of drawing, 6 s of answers
    with turns.drawing():
        now[0] += 100.0
    assert not turns.may_draw(1)
    assert turns.may_draw(0)
    both = Turns(None, torch.device("cpu"))
    with both.drawing():
        now[0] += 100.0
    assert both.may_draw(9)


def test_answers_go_on_between_the_steps_of_a_long_drawing(folder: Path) -> None:
    engine = UniFaceEngine(folder, image_share=0.2, image_batch=1)
    drawing = engine.submit(Draw("a", 0, 40, 1.0, 1.0, "cosine", partials=39))
    answer = engine.submit(Ask(PIXELS, "who?", 60, watched=True))
    outcomes: dict[int, Outcome] = {}
    told: list[int] = []
    while len(outcomes) < 2:
        outcomes |= engine.step()
        told += [number for number, _ in engine.progress()]
    spoken = [index for index, number in enumerate(told) if number == answer]
    drawn = told[: spoken[-1]].count(drawing)
    assert isinstance(outcomes[drawing], Drawing)
    assert 0 < drawn < 39  # it went on, and the answer did not wait for its end
    assert len(spoken) > 20
