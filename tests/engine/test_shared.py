"""Several callers of one engine: whoever comes joins, and each gets what belongs to it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from uniface_ray.core.errors import BrokenProcessError
from uniface_ray.engine.protocol import Ask, Outcome, Request, Text
from uniface_ray.engine.shared import SharedEngine
from uniface_ray.engine.uniface import UniFaceEngine

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


class Steps:
    """An engine of which a request takes as many steps as it may have tokens."""

    image_size = 2

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.sizes: list[int] = []
        self.next = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def submit(self, request: Request) -> int:
        assert isinstance(request, Ask)
        self.next += 1
        self.left[self.next] = request.max_new_tokens
        return self.next

    def step(self) -> list[tuple[int, Outcome]]:
        self.may_go.wait()
        time.sleep(0.005)
        if any(left == 999 for left in self.left.values()):
            raise ValueError("bad luck")
        self.sizes.append(len(self.left))
        self.left = {number: left - 1 for number, left in self.left.items()}
        ended = [number for number, left in self.left.items() if left == 0]
        for number in ended:
            del self.left[number]
        return [(number, Text(str(number), 1)) for number in ended]

    def cancel(self, number: int) -> None:
        self.left.pop(number, None)


def asks(*tokens: int) -> list[Ask]:
    return [Ask(PIXELS[0], "?", count) for count in tokens]


def test_who_comes_later_joins_those_under_way() -> None:
    engine = Steps()
    shared = SharedEngine(engine)
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(shared.run, asks(60, 1), lambda: None)
        while len(engine.sizes) < 5:
            time.sleep(0.001)
        outcomes, seconds = shared.run(asks(3, 2), lambda: None)
        assert not long.done()
        (first, second), all_seconds = long.result()
    assert [one.text for one in outcomes if isinstance(one, Text)] == ["3", "4"]
    assert isinstance(first, Text)
    assert isinstance(second, Text)
    assert (first.text, second.text) == ("1", "2")
    assert max(engine.sizes) == 3
    assert 0 < seconds < all_seconds


def test_an_error_of_a_step_is_told_to_all_and_the_next_ones_are_answered() -> None:
    shared = SharedEngine(Steps())
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(shared.run, asks(count), lambda: None) for count in (200, 999)]
        for one in both:
            with pytest.raises(ValueError, match="bad luck"):
                one.result()
    assert len(shared.run(asks(1, 2), lambda: None)[0]) == 2
    assert shared.run([], lambda: None)[0] == []


def test_an_engine_that_is_broken_for_good_tells_everybody() -> None:
    class Broken(Steps):
        def cancel(self, number: int) -> None:
            raise BrokenProcessError("gone")

    shared, told = SharedEngine(Broken()), []

    def ask() -> None:
        try:
            shared.run(asks(999, 5), lambda: None)
        except ValueError as error:
            told.append(str(error))

    for _ in range(2):  # the second one finds the engine's thread alive
        caller = threading.Thread(target=ask, daemon=True)
        caller.start()
        caller.join(20)
    assert told == ["bad luck"] * 2


def test_beats_tell_of_steps_and_not_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.engine.shared._BEAT_S", 0.02)
    engine, beats = Steps(), []
    shared = SharedEngine(engine)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(shared.run, asks(100), lambda: beats.append(len(engine.sizes)))
        while len(beats) < 5:
            time.sleep(0.001)
        engine.may_go.clear()
        time.sleep(0.1)
        stuck = len(beats)
        time.sleep(0.2)
        assert len(beats) == stuck
        engine.may_go.set()
        run.result()
    assert len(beats) == len(set(beats))


def test_answers_are_those_of_callers_alone(folder: Path) -> None:
    engine = UniFaceEngine(folder, batch_size=5)
    asked: list[Sequence[Ask]] = [
        [Ask(PIXELS[index + one], "who?", 3 + index, seed=index) for one in range(3)] for index in range(0, 9, 3)
    ]
    alone = [engine.run(some) for some in asked]
    shared = SharedEngine(engine)
    with ThreadPoolExecutor(3) as pool:
        together = [found for found, _ in pool.map(lambda some: shared.run(some, lambda: None), asked)]
    assert together == alone
