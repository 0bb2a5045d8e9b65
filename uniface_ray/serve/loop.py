"""An engine in a thread of its own, and the requests of an asyncio server that it works on together.

Requests enter between two steps, so nobody waits for a batch to end. After each step the server's event loop is woken
once with all that has come.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from uniface_ray.engine.protocol import Draw, Engine, Request
from uniface_ray.serve.errors import ApiError, busy
from uniface_ray.serve.models import News

_LOG = logging.getLogger(__name__)
REPLICA_GONE = "replica_gone"
"""Code of the error of a request that another replica may answer: this one has not begun with it."""
REPLICA_DIED = "replica_died"
"""Code of the error of a request that the engine failed with, of which it may be the cause."""
# Weight of the last interval between two ends of requests in the running mean.
_RECENT = 0.1


@dataclass(slots=True, eq=False)
class _Call:
    """A request under way.

    Attributes:
        request: as it came.
        news: what the event loop has not told yet.
        arrived: there is news.
        number: of the engine, once it has the request.
        gone: nobody waits for it any more.
        error: why nothing more comes.
    """

    request: Request
    news: list[News] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    number: int | None = None
    gone: bool = False
    error: ApiError | None = None

    def hear(self, news: News | ApiError) -> None:
        """In the event loop."""
        if isinstance(news, ApiError):
            self.error = news
        elif self.news and not isinstance(self.request, Draw):
            self.news[-1] = news  # who reads slowly skips to the longest answer; unfinished images all count
        else:
            self.news.append(news)
        self.arrived.set()


class EngineLoop:
    """See `models.Served`. One engine, in one thread; its callers live in one event loop."""

    def __init__(
        self,
        engine: Engine,
        answers: int,
        drawings: int,
        max_waiting: int,
        longest_wait_s: float = 300.0,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            engine: used by this thread only from now on.
            answers: slots for requests that are no drawings.
            drawings: slots for drawings.
            max_waiting: requests of a kind beyond its slots before the next one is refused.
            longest_wait_s: after which who was refused is told to come again, at the most.
            broken: called in the thread when the engine has failed, after all who wait have been told.
        """
        self.image_size = engine.image_size
        self._engine = engine
        self._slots = {False: answers, True: drawings}
        self._max_waiting = max_waiting
        self._longest_wait_s = longest_wait_s
        self._when_broken = broken
        self._calls: dict[bool, int] = {False: 0, True: 0}
        self._pace_s = 0.0
        self._ended_at = time.monotonic()
        self._changed = threading.Condition()
        self._inbox: list[_Call] = []
        self._taken: list[_Call] = []  # from the inbox, not all of them submitted yet
        self._step_since: float | None = None
        self._broken: BaseException | None = None
        self._closing = False
        self._ended = False
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def ask(self, request: Request) -> AsyncGenerator[News]:
        """See `models.Served`."""
        self._event_loop = asyncio.get_running_loop()
        draws = isinstance(request, Draw)
        if self._closing:
            raise _gone()
        self.check_room(draws)
        call = _Call(request)
        if not self._put(call):
            raise _gone()
        self._calls[draws] += 1
        try:
            while True:
                await call.arrived.wait()
                call.arrived.clear()
                news, call.news = call.news, []
                for one in news:
                    yield one
                    if one.last:
                        return
                if call.error:
                    raise call.error
        finally:
            self._calls[draws] -= 1
            if not call.gone:
                call.gone = True
                self._put(call)

    def check_room(self, draws: bool) -> None:
        """See `models.Served`."""
        room = self._slots[draws] + self._max_waiting
        if self._calls[draws] >= room:
            what = f"{room} requests are under way or waiting, as many as are allowed; try again later"
            raise busy(what, min(self._pace_s * self._max_waiting / 2, self._longest_wait_s))

    async def ready(self) -> bool:
        """Whether it works and takes requests."""
        return not self._closing and self.trouble(float("inf")) is None

    @property
    def load(self) -> dict[str, int]:
        """Requests by what they do now: `answers` and `drawings` in their slots, and `waiting`."""
        running = {draws: min(count, self._slots[draws]) for draws, count in self._calls.items()}
        waiting = sum(self._calls.values()) - sum(running.values())
        return {"answers": running[False], "drawings": running[True], "waiting": waiting}

    @property
    def drawings(self) -> int:
        """Drawings that are under way or wait."""
        return self._calls[True]

    def trouble(self, step_s: float) -> str | None:
        """What is wrong with the engine: it has failed, or a step takes longer than `step_s` seconds."""
        if self._broken:
            return f"the engine failed: {self._broken}"
        since = self._step_since
        if since is not None and time.monotonic() - since > step_s:
            return f"a step of the engine takes longer than engine.timeout_s={step_s:g}"
        return None

    async def drain(self) -> None:
        """Refuse new requests, and return when those under way have ended."""
        self._closing = True
        while any(self._calls.values()):
            await asyncio.sleep(0.05)
        self._put(None)

    def close(self) -> None:
        """End the thread; requests under way fail."""
        self._closing = True
        self._put(None)
        self._thread.join()

    def _put(self, call: _Call | None) -> bool:
        """Wake the thread; False where it is no more."""
        with self._changed:
            if call:
                self._inbox.append(call)
            self._changed.notify()
            return not self._ended

    def _run(self) -> None:
        calls: dict[int, _Call] = {}
        try:
            while self._take(calls):
                if calls:
                    self._step(calls)
        except BaseException as error:
            _LOG.exception("the engine failed")
            self._broken = error
        finally:
            self._step_since = None
            with self._changed:
                self._ended = True
                waiting = [call for call in (*self._taken, *self._inbox) if call.number is None and not call.gone]
            self._tell([*((call, _died()) for call in calls.values()), *((call, _gone()) for call in waiting)])
            if self._broken:
                self._when_broken()

    def _take(self, calls: dict[int, _Call]) -> bool:
        """Submit what has come and cancel what is gone; wait while there is nothing to do. False at the end."""
        with self._changed:
            while not (self._inbox or calls or self._closing):
                self._changed.wait()
            if self._closing and not (self._inbox or calls):
                return False
            self._taken, self._inbox = self._inbox, []
        self._step_since = time.monotonic()
        if not calls:
            self._ended_at = self._step_since  # it was idle: that is no time a request took
        while self._taken:
            call = self._taken.pop(0)
            if call.gone:
                if call.number is not None and call.number in calls:
                    del calls[call.number]
                    self._engine.cancel(call.number)
                continue
            try:
                call.number = self._engine.submit(call.request)
            except Exception:  # of this request's making: it must not end the others
                _LOG.exception("the engine cannot take a request")
                self._tell([(call, _failed())])
                continue
            calls[call.number] = call
        self._step_since = None
        return True

    def _step(self, calls: dict[int, _Call]) -> None:
        self._step_since = time.monotonic()
        ended = self._engine.step()
        self._step_since = None
        news = [(number, News(result, last=False)) for number, result in self._engine.progress()]
        news += [(number, News(outcome, last=True)) for number, outcome in ended]
        told: list[tuple[_Call, News | ApiError]] = [(calls[number], one) for number, one in news if number in calls]
        for number, _ in ended:
            if calls.pop(number, None):
                self._mark_pace()
        if told:
            self._tell(told)

    def _mark_pace(self) -> None:
        now = time.monotonic()
        self._pace_s += _RECENT * (now - self._ended_at - self._pace_s)
        self._ended_at = now

    def _tell(self, told: list[tuple[_Call, News | ApiError]]) -> None:
        def deliver() -> None:
            for call, news in told:
                if isinstance(news, ApiError) or news.last:
                    call.gone = True  # of the engine's own accord: nothing to cancel
                call.hear(news)

        loop = self._event_loop
        if loop and not loop.is_closed():
            loop.call_soon_threadsafe(deliver)


def _gone() -> ApiError:
    return ApiError(503, "the replica of this request went away; try again", code=REPLICA_GONE)


def _died() -> ApiError:
    return ApiError(503, "the replica failed while it worked at this request; try again", code=REPLICA_DIED)


def _failed() -> ApiError:
    return ApiError(500, "the server failed at this request; its log says why", code="internal_error")


__all__ = ["REPLICA_DIED", "REPLICA_GONE", "EngineLoop"]
