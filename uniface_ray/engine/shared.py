"""One engine for several callers at once: its slots stay full across what each of them asks."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from uniface_ray.engine.protocol import Engine, Outcome, Request

_BEAT_S = 1.0


@dataclass(eq=False)
class _Call:
    """What one caller waits for.

    Attributes:
        requests: as they came.
        places: of the requests by id of the engine, while they are under way.
        outcomes: so far.
        seconds: of the engine's steps, its share of each.
        error: that ended it.
        ended: all outcomes are there, or the error.
    """

    requests: Sequence[Request]
    places: dict[int, int] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    error: Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class SharedEngine:
    """Steps an engine in a thread of its own; whoever asks while others wait joins them at the next step."""

    def __init__(self, engine: Engine) -> None:
        """Start the thread.

        Args:
            engine: used by this thread only from now on.
        """
        self._engine = engine
        self._changed = threading.Condition()
        self._inbox: list[_Call] = []
        self._calls: dict[int, _Call] = {}
        self._steps = 0
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def run(self, requests: Sequence[Request], beat: Callable[[], None]) -> tuple[list[Outcome], float]:
        """Answer requests, from any thread.

        Args:
            requests: of this caller.
            beat: called from time to time, as long as the engine makes progress.

        Returns:
            Outcomes, the i-th for the i-th request, and this caller's share of the engine's time in seconds.

        Raises:
            Exception: what a step of the engine raised; it costs all requests under way.
        """
        call, seen = _Call(requests), -1
        with self._changed:
            self._inbox.append(call)
            self._changed.notify()
        while not call.ended.wait(_BEAT_S):
            if self._steps != seen:
                seen = self._steps
                beat()
        if call.error:
            raise call.error
        return [call.outcomes[place] for place in range(len(requests))], call.seconds

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._calls)
                inbox, self._inbox = self._inbox, []
            try:
                for call in inbox:
                    self._submit(call)
                self._step()
            except Exception as error:
                self._give_up(error, inbox)

    def _submit(self, call: _Call) -> None:
        for place, request in enumerate(call.requests):
            number = self._engine.submit(request)
            call.places[number], self._calls[number] = place, call
        if not call.requests:
            call.ended.set()

    def _step(self) -> None:
        if not self._calls:
            return
        start, under_way = time.perf_counter(), len(self._calls)
        calls = set(self._calls.values())
        shares = {call: len(call.places) / under_way for call in calls}
        ended = self._engine.step()
        self._steps += 1
        took_s = time.perf_counter() - start
        for call, share in shares.items():
            call.seconds += took_s * share
        for number, outcome in ended:
            call = self._calls.pop(number)
            call.outcomes[call.places.pop(number)] = outcome
            if not call.places:
                call.ended.set()

    def _give_up(self, error: Exception, inbox: Sequence[_Call]) -> None:
        """The error is everybody's; the engine starts anew with the next who ask."""
        numbers, calls = list(self._calls), {*self._calls.values(), *inbox}
        self._calls.clear()
        for call in calls:
            if not call.ended.is_set():
                call.error = error
                call.ended.set()
        for number in numbers:
            with suppress(Exception):  # an engine that is broken may raise here too, and has told so already
                self._engine.cancel(number)


__all__ = ["SharedEngine"]
