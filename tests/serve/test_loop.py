"""Requests in and out of an engine's thread, by an engine that does what the test says."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Outcome, Request, Text
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.loop import EngineLoop
from uniface_ray.serve.models import News, outcome_of

PIXELS = np.zeros((3, 8, 8), np.uint8)


class Steps:
    """An engine that needs `max_new_tokens` steps for an answer; `may_step` holds it up."""

    image_size = 8

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.requests: dict[int, Request] = {}
        self.cancelled: list[int] = []
        self.may_step = threading.Event()
        self.may_step.set()
        self.fails = False

    def submit(self, request: Request) -> int:
        number = len(self.requests)
        self.requests[number] = request
        self.left[number] = request.max_new_tokens if isinstance(request, Ask) else 3
        return number

    def step(self) -> list[tuple[int, Outcome]]:
        self.may_step.wait()
        if self.fails:
            raise UniFaceError("nothing works")
        self.left = {number: left - 1 for number, left in self.left.items()}
        ended = [number for number, left in self.left.items() if not left]
        return [(number, self.result(number, self.left.pop(number))) for number in ended]

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        return [(number, self.result(number, left)) for number, left in self.left.items()]

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)
        self.left.pop(number, None)

    def run(self, requests: object) -> list[Outcome]:
        raise NotImplementedError

    def result(self, number: int, left: int) -> Text | Drawing:
        request = self.requests[number]
        if isinstance(request, Draw):
            return Drawing(np.full((3, 8, 8), 3 - left, np.uint8), "")
        assert isinstance(request, Ask)
        done = request.max_new_tokens - left
        return Text("x" * done, done)


def question(tokens: int = 3) -> Ask:
    return Ask(PIXELS, "?", tokens)


def drawing() -> Draw:
    return Draw("a", 0, 3, 0, 0, "cosine")


def test_requests_join_those_under_way() -> None:
    engine = Steps()
    loop = EngineLoop(engine, 4, 4, 4)

    async def both() -> list[Outcome]:
        long = asyncio.create_task(outcome_of(loop, question(10**6)))
        short = await asyncio.gather(*(outcome_of(loop, question(n)) for n in (3, 5)))
        assert not long.done()
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        while loop.load["answers"] or not engine.cancelled:
            await asyncio.sleep(0.001)
        return list(short)

    assert asyncio.run(both()) == [Text("xxx", 3), Text("xxxxx", 5)]
    loop.close()
    assert engine.cancelled == [0]
    assert engine.left == {}


def test_answers_may_skip_to_their_longest_and_drawings_may_not() -> None:
    engine = Steps()
    loop = EngineLoop(engine, 4, 4, 4)

    async def slow_reader(stream: AsyncGenerator[News]) -> list[News]:
        told = []
        async for news in stream:
            told.append(news)
            time.sleep(0.05)  # the event loop stands still, the engine does not
        return told

    async def read() -> tuple[list[News], list[News]]:
        return await slow_reader(loop.ask(question(50))), await slow_reader(loop.ask(drawing()))

    answer, drawn = asyncio.run(read())
    loop.close()
    assert len(answer) < 50
    assert [news.last for news in answer] == [False] * (len(answer) - 1) + [True]
    assert isinstance(answer[-1].outcome, Text)
    assert answer[-1].outcome.tokens == 50
    assert [news.outcome.pixels[0, 0, 0] for news in drawn if isinstance(news.outcome, Drawing)] == [1, 2, 3]


def test_who_finds_no_room_is_told_at_once_and_kinds_have_rooms_of_their_own() -> None:
    engine = Steps()
    engine.may_step.clear()
    loop = EngineLoop(engine, 2, 1, 1)

    async def crowd() -> list[Outcome | BaseException]:
        asked = [asyncio.create_task(outcome_of(loop, one)) for one in [question()] * 4 + [drawing()] * 3]
        while sum(task.done() for task in asked) < 2:
            await asyncio.sleep(0.001)
        assert loop.load == {"answers": 2, "drawings": 1, "waiting": 2}
        engine.may_step.set()
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes = asyncio.run(crowd())
    loop.close()
    refused = [index for index, one in enumerate(outcomes) if isinstance(one, ApiError)]
    assert refused == [3, 6]
    error = outcomes[3]
    assert isinstance(error, ApiError)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert int(error.headers["Retry-After"]) >= 1


def test_a_failed_engine_fails_who_waits_and_says_so() -> None:
    engine = Steps()
    engine.may_step.clear()
    loop = EngineLoop(engine, 1, 1, 4)

    async def unlucky() -> list[Outcome | BaseException]:
        asked = [asyncio.create_task(outcome_of(loop, question())) for _ in range(3)]
        while loop.load["waiting"] < 2:
            await asyncio.sleep(0.001)
        assert loop.trouble(60.0) is None
        engine.fails = True
        engine.may_step.set()
        outcomes = list(await asyncio.gather(*asked, return_exceptions=True))
        with pytest.raises(ApiError, match="went away"):
            await outcome_of(loop, question())
        return outcomes

    assert [getattr(one, "code", None) for one in asyncio.run(unlucky())] == ["replica_died"] * 3
    assert "nothing works" in str(loop.trouble(60.0))
    assert not asyncio.run(loop.ready())


def test_a_request_that_the_engine_cannot_take_fails_alone() -> None:
    class Chokes(Steps):
        def submit(self, request: Request) -> int:
            if isinstance(request, Ask) and request.question == "poison":
                raise TypeError("not of its words")
            return super().submit(request)

    loop = EngineLoop(Chokes(), 4, 4, 4)

    async def both() -> list[Outcome | BaseException]:
        asked = [asyncio.create_task(outcome_of(loop, Ask(PIXELS, what, 200))) for what in ("?", "poison", "?")]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, failed, last = asyncio.run(both())
    assert first == last == Text("x" * 200, 200)
    assert isinstance(failed, ApiError)
    assert (failed.status, failed.code) == (500, "internal_error")
    assert loop.trouble(60.0) is None
    assert not any(loop.load.values())
    loop.close()


def test_who_came_with_a_cancelled_request_hears_of_an_engine_that_fails_at_it() -> None:
    class Fragile(Steps):
        def cancel(self, number: int) -> None:
            raise UniFaceError("the device is gone")

    loop = EngineLoop(engine := Fragile(), 4, 4, 4)
    engine.may_step.clear()

    async def unlucky() -> BaseException | Outcome:
        leaving = asyncio.create_task(outcome_of(loop, question(200)))
        while not engine.requests:
            await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        staying = asyncio.create_task(outcome_of(loop, question()))
        await asyncio.sleep(0)
        engine.may_step.set()
        return (await asyncio.wait_for(asyncio.gather(staying, return_exceptions=True), 10))[0]

    assert getattr(asyncio.run(unlucky()), "code", None) == "replica_gone"


def test_idle_hours_are_no_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = 0.0
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + hours * 3600)
    engine = Steps()
    loop = EngineLoop(engine, 1, 1, 4, longest_wait_s=300.0)

    async def crowd(longest: int) -> int:
        engine.may_step.clear()
        asked = [asyncio.create_task(outcome_of(loop, question(longest))) for _ in range(5)]
        while loop.load["waiting"] < 4:
            await asyncio.sleep(0.001)
        with pytest.raises(ApiError) as caught:
            await outcome_of(loop, question())
        engine.may_step.set()
        await asyncio.gather(*asked)
        return int(caught.value.headers["Retry-After"])

    async def night() -> tuple[int, int]:
        nonlocal hours
        await outcome_of(loop, question())
        hours = 9
        await outcome_of(loop, question())
        morning = await crowd(1)
        engine.may_step.clear()
        slow = asyncio.create_task(outcome_of(loop, question()))
        while loop.load["answers"] == 0 or loop.trouble(-1.0) is None:
            await asyncio.sleep(0.001)
        hours = 18  # while it works
        engine.may_step.set()
        await slow
        return morning, await crowd(1)

    morning, after_work = asyncio.run(night())
    loop.close()
    assert morning < 60
    assert after_work == 300


def test_a_step_that_does_not_end_is_trouble() -> None:
    engine = Steps()
    loop = EngineLoop(engine, 1, 1, 4)

    async def wait() -> None:
        assert loop.trouble(0.0) is None  # nothing to do is no trouble
        engine.may_step.clear()
        asked = asyncio.create_task(outcome_of(loop, question()))
        while loop.trouble(0.05) is None:
            await asyncio.sleep(0.001)
        assert "engine.timeout_s=0.05" in str(loop.trouble(0.05))
        engine.may_step.set()
        await asked
        assert loop.trouble(0.05) is None
        may_submit, submit = threading.Event(), engine.submit
        engine.submit = lambda request: (may_submit.wait(), submit(request))[1]  # type: ignore[method-assign]
        asked = asyncio.create_task(outcome_of(loop, question()))
        while loop.trouble(0.05) is None:
            await asyncio.sleep(0.001)
        may_submit.set()
        await asked

    asyncio.run(wait())
    loop.close()


def test_draining_lets_what_is_under_way_end_and_nothing_new_in() -> None:
    engine = Steps()
    loop = EngineLoop(engine, 4, 1, 4)

    async def drain() -> Outcome:
        under_way = asyncio.create_task(outcome_of(loop, question(200)))
        while not loop.load["answers"]:
            await asyncio.sleep(0)
        draining = asyncio.create_task(loop.drain())
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="went away"):
            await outcome_of(loop, question())
        assert not await loop.ready()
        outcome = await under_way
        await draining
        return outcome

    assert asyncio.run(drain()) == Text("x" * 200, 200)
    loop.close()


def test_a_refusal_is_an_outcome() -> None:
    class Refuses(Steps):
        def result(self, number: int, left: int) -> Text | Drawing:
            return Reject(RejectKind.BAD_REQUEST, "no", "engine")  # type: ignore[return-value]

    loop = EngineLoop(Refuses(), 4, 1, 4)
    assert asyncio.run(outcome_of(loop, question(1))) == Reject(RejectKind.BAD_REQUEST, "no", "engine")
    loop.close()
