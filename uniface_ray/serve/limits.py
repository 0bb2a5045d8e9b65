"""How much one key may ask: requests a minute and at a time, the same over all replicas of the server.

One actor counts for all of them. A replica that cannot reach it counts for itself until it can: then limits hold for
each replica alone, and nobody is locked out because a node was lost.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 0.5  # with the actor
_START_S = 20.0  # with one that may not have started yet
_CALM_S = 5.0  # before it is asked again
# Keys that nobody has used for so long are forgotten: their buckets are full again.
_FORGET_S = 120.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What each key may have.

    Attributes:
        requests_per_min: a bucket of so many that fills up within a minute; None for no limit.
        concurrency: requests at a time; None for no limit.
        hold_s: a request that has not ended after so long is no longer counted: its replica was lost.
    """

    requests_per_min: float | None
    concurrency: int | None
    hold_s: float

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return self.requests_per_min is not None or self.concurrency is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to a request's coming.

    Attributes:
        number: under which it is counted until it ends; None where it may not go on.
        retry_after_s: when it may try again; 0 where it may go on.
        reason: for people, where it may not.
        left: requests that may follow at once; None without such a limit.
    """

    number: int | None
    retry_after_s: float = 0.0
    reason: str = ""
    left: int | None = None


@dataclass(slots=True)
class _Account:
    tokens: float
    at_s: float
    under_way: dict[int, float] = field(default_factory=dict)  # number -> when it began


class Limits:
    """Counts. Not for several threads at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._numbers = count()
        self._swept_s = clock()

    def enter(self, name: str, rule: Rule) -> Turn:
        """A request of the key `name` comes."""
        now = self._clock()
        self._sweep(now, rule)
        per_min = rule.requests_per_min
        account = self._accounts.setdefault(name, _Account(per_min or 0.0, now))
        account.under_way = {one: at for one, at in account.under_way.items() if now - at < rule.hold_s}
        if rule.concurrency is not None and len(account.under_way) >= rule.concurrency:
            what = f"{rule.concurrency} requests of this key are under way, as many as it may have at a time"
            return Turn(None, 1.0, what)
        if per_min is not None:
            account.tokens = min(max(per_min, 1.0), account.tokens + (now - account.at_s) * per_min / 60)
            account.at_s = now
            if account.tokens < 1:
                wait = (1 - account.tokens) * 60 / per_min
                return Turn(None, wait, f"this key may ask {per_min:g} times a minute", 0)
            account.tokens -= 1
        account.at_s = now
        number = next(self._numbers)
        account.under_way[number] = now
        return Turn(number, left=None if per_min is None else int(account.tokens))

    def leave(self, name: str, number: int) -> None:
        """A request has ended."""
        if account := self._accounts.get(name):
            account.under_way.pop(number, None)

    def _sweep(self, now: float, rule: Rule) -> None:
        if now - self._swept_s < _FORGET_S:
            return
        self._swept_s = now
        patience = max(_FORGET_S, rule.hold_s)
        self._accounts = {name: one for name, one in self._accounts.items() if now - one.at_s < patience}


class Gate:
    """The way in for one replica of the server.

    Args:
        rule: for every key.
        enter: asks the counter of all replicas, as `Limits.enter`; None where there is but this one.
        leave: tells it, as `Limits.leave`.
    """

    def __init__(
        self,
        rule: Rule,
        enter: Callable[[str, Rule], Awaitable[Turn]] | None = None,
        leave: Callable[[str, int], Any] | None = None,
    ) -> None:
        self.rule = rule
        self._enter, self._leave = enter, leave
        self._own = Limits()
        self._alone_until_s = 0.0
        self._patience_s = _START_S
        self._late: set[asyncio.Future[Turn]] = set()

    async def enter(self, name: str) -> tuple[Turn, Callable[[], None]]:
        """A request comes: its turn, and what to call when it has ended."""
        if self._enter and time.monotonic() >= self._alone_until_s:
            asked = asyncio.ensure_future(self._enter(name, self.rule))
            try:
                turn = await asyncio.wait_for(asyncio.shield(asked), self._patience_s)
                return turn, self._leaver(turn, name, self._leave)
            except asyncio.CancelledError:  # the client has gone
                self._return_late(asked, name)
                raise
            except Exception as error:
                self._return_late(asked, name)
                self._alone_until_s = time.monotonic() + _CALM_S
                _LOG.warning("the counter of all replicas does not answer (%r): this one counts for itself", error)
            finally:
                self._patience_s = _PATIENCE_S
        turn = self._own.enter(name, self.rule)
        return turn, self._leaver(turn, name, self._own.leave)

    def _return_late(self, asked: asyncio.Future[Turn], name: str) -> None:
        """Nobody waits for this turn any more, but it counts as soon as it is given: give it back then."""

        def returned(_: asyncio.Future[Turn]) -> None:
            self._late.discard(asked)
            if not asked.cancelled() and not asked.exception():
                self._leaver(asked.result(), name, self._leave)()

        self._late.add(asked)  # the event loop would forget it
        asked.add_done_callback(returned)

    @staticmethod
    def _leaver(turn: Turn, name: str, leave: Callable[[str, int], Any] | None) -> Callable[[], None]:
        def end() -> None:
            if leave and turn.number is not None:
                leave(name, turn.number)

        return end


__all__ = ["Gate", "Limits", "Rule", "Turn"]
