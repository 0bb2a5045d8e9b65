"""Limits of one key, by a clock that the tests turn."""

import asyncio
from dataclasses import dataclass

import pytest

from uniface_ray.serve.limits import Gate, Limits, Rule, Turn


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    limits, rule = Limits(clock), Rule(6, None, 60)
    assert [limits.enter("ann", rule).left for _ in range(6)] == [5, 4, 3, 2, 1, 0]
    refused = limits.enter("ann", rule)
    assert refused.number is None
    assert refused.retry_after_s == pytest.approx(10)
    assert "6 times a minute" in refused.reason
    assert limits.enter("bob", rule).number is not None, "another key has a bucket of its own"
    clock.now += 9.9
    assert limits.enter("ann", rule).number is None
    clock.now += 0.2
    assert limits.enter("ann", rule).number is not None
    clock.now += 3600
    assert [limits.enter("ann", rule).number is None for _ in range(7)] == [False] * 6 + [True], "no more than full"


def test_less_than_one_a_minute_is_still_one_at_times() -> None:
    clock = Clock()
    limits, rule = Limits(clock), Rule(0.5, None, 60)
    clock.now += 1
    refused = limits.enter("ann", rule)
    clock.now += refused.retry_after_s + 0.01
    assert limits.enter("ann", rule).number is not None


def test_as_many_at_a_time() -> None:
    limits, rule = Limits(Clock()), Rule(None, 2, 60)
    first, second = limits.enter("ann", rule), limits.enter("ann", rule)
    third = limits.enter("ann", rule)
    assert third.number is None
    assert third.retry_after_s > 0
    assert first.number is not None
    limits.leave("ann", first.number)
    limits.leave("ann", first.number)  # twice is once
    assert limits.enter("ann", rule).number is not None
    assert limits.enter("ann", rule).number is None
    assert second.left is None


def test_what_a_lost_replica_held_is_free_after_a_while() -> None:
    clock = Clock()
    limits, rule = Limits(clock), Rule(None, 1, 300)
    limits.enter("ann", rule)
    clock.now += 299
    assert limits.enter("ann", rule).number is None
    clock.now += 2
    assert limits.enter("ann", rule).number is not None


def test_a_refused_request_costs_no_token() -> None:
    limits, rule = Limits(Clock()), Rule(10, 1, 60)
    turn = limits.enter("ann", rule)
    for _ in range(5):
        limits.enter("ann", rule)
    assert turn.number is not None
    limits.leave("ann", turn.number)
    assert limits.enter("ann", rule).left == 8


def test_keys_that_are_gone_are_forgotten() -> None:
    clock = Clock()
    limits, rule = Limits(clock), Rule(60, 5, 10)
    for number in range(1000):
        limits.enter(f"key{number}", rule)
    clock.now += 200
    limits.enter("ann", rule)
    assert list(limits._accounts) == ["ann"]


def test_replicas_share_one_counter() -> None:
    shared = Limits()

    async def enter(name: str, rule: Rule) -> Turn:
        return shared.enter(name, rule)

    async def play() -> list[bool]:
        gates = [Gate(Rule(None, 2, 60), enter, shared.leave) for _ in range(3)]
        turns = [await gate.enter("ann") for gate in gates]
        turns[0][1]()
        turns.append(await gates[2].enter("ann"))
        return [turn.number is not None for turn, _ in turns]

    assert asyncio.run(play()) == [True, True, False, True]


def test_a_counter_that_is_gone_leaves_each_replica_its_own(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def enter(name: str, rule: Rule) -> Turn:
        nonlocal asked
        asked += 1
        raise ConnectionError("the actor is gone")

    async def play() -> list[bool]:
        gate = Gate(Rule(None, 2, 60), enter, lambda name, number: None)
        return [(await gate.enter("ann"))[0].number is not None for _ in range(3)]

    assert asyncio.run(play()) == [True, True, False]
    assert asked == 1, "it is left alone for a while"
    assert "counts for itself" in caplog.text


def test_a_counter_may_start_late_and_is_not_waited_for_when_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.serve.limits._PATIENCE_S", 0.01)
    shared, asked = Limits(), 0

    async def enter(name: str, rule: Rule) -> Turn:
        nonlocal asked
        asked += 1
        await (asyncio.sleep(0.1) if asked == 1 else asyncio.Event().wait())
        return shared.enter(name, rule)

    async def play() -> list[bool]:
        gate = Gate(Rule(None, 1, 60), enter, shared.leave)
        return [(await gate.enter("ann"))[0].number is not None for _ in range(3)]

    assert asyncio.run(play()) == [True, True, False], "the second and third are counted by the gate itself"
    assert asked == 2
    assert shared.enter("ann", Rule(None, 1, 60)).number is None


@pytest.mark.parametrize("client_goes", [False, True])
def test_a_turn_that_comes_too_late_is_given_back(client_goes: bool) -> None:
    limits = Limits()

    async def call() -> None:
        answers = asyncio.Event()

        async def slow(name: str, rule: Rule) -> Turn:
            turn = limits.enter(name, rule)  # counted at once, told late
            await answers.wait()
            return turn

        gate = Gate(Rule(None, 1, 300), slow, limits.leave)
        gate._patience_s = 300.0 if client_goes else 0.01
        entering = asyncio.create_task(gate.enter("ann"))
        if client_goes:
            await asyncio.sleep(0.01)
            entering.cancel()
        (result,) = await asyncio.gather(entering, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError) == client_goes
        assert limits.enter("ann", gate.rule).number is None
        answers.set()
        while limits.enter("ann", gate.rule).number is None:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(call(), 20))
