"""One counter for several replicas: a real actor, and what happens when it is gone."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import ray

from uniface_ray.serve.limits import Rule
from uniface_ray.serve.shared_limits import shared_gate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
class Door:
    """A replica: asks, and keeps what it got."""

    def __init__(self, rule: Rule) -> None:
        self._gate = shared_gate(rule)

    async def enter(self, name: str) -> bool:
        turn, self._leave = await self._gate.enter(name)
        return turn.number is not None

    async def leave(self) -> None:
        self._leave()


def test_limits_hold_over_replicas_and_outlive_their_counter(one_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    doors = [Door.remote(Rule(None, 2, 60)) for _ in range(3)]
    let_in = [ray.get(door.enter.remote("ann")) for door in doors]
    assert let_in == [True, True, False]
    assert ray.get(doors[2].enter.remote("bob"))
    ray.get(doors[0].leave.remote())
    while not ray.get(doors[2].enter.remote("ann")):  # the counter hears of it a moment later
        time.sleep(0.05)

    gate = shared_gate(Rule(None, 1, 60))
    ray.kill(ray.get_actor("uniface-limits", namespace="uniface"))

    async def alone() -> list[bool]:
        return [(await gate.enter("eve"))[0].number is not None for _ in range(2)]

    assert asyncio.run(alone()) == [True, False]
