"""A bounded load generator: clients of the chat API on this machine, what they saw, and what they cost."""

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2


@dataclass(slots=True)
class Seen:
    """Of one request: seconds from its start.

    Attributes:
        status: of HTTP; 0 of an answer that ended in an error.
        first_s: until the first token, of a stream.
        total_s: until its end.
        tokens: of the answer.
        at: when it ended, on the monotonic clock.
    """

    status: int
    first_s: float
    total_s: float
    tokens: int
    at: float


@dataclass(slots=True)
class Load:
    """What all requests of a time have seen.

    Attributes:
        seen: of each, in the order of their ends.
        start: of the first, on the monotonic clock.
        asked_until: when no more were begun; what ends later has the server more and more to itself.
        wall_s: until the last end.
        cpu_s: of this process meanwhile.
    """

    seen: list[Seen] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    asked_until: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def good(self) -> list[Seen]:
        """Answers."""
        return [one for one in self.seen if one.status == 200]

    def rate(self, first: int) -> float:
        """Answers a second as long as there was all of the load, after the `first` ones (see `steady_rate`)."""
        return steady_rate([one.at for one in self.good if one.at <= self.asked_until], first)

    def numbers(self, first: int) -> dict[str, Any]:
        """Rates of answers after the `first` ones, and percentiles of seconds."""
        good = self.good
        refused = [one for one in self.seen if one.status == 429]
        others = len(self.seen) - len(good) - len(refused)
        rate = self.rate(first)
        return {
            "answers": len(good),
            "answers_per_s": rate,
            "tokens_per_s": rate * sum(one.tokens for one in good) / max(1, len(good)),
            "latency_s": percentiles([one.total_s for one in good]),
            "first_token_s": percentiles([one.first_s for one in good]),
            "refused_429": len(refused),
            "refused_latency_s": percentiles([one.total_s for one in refused]),
            "other_statuses": others,
            "seconds": self.asked_until - self.start,
            "generator_share_of_cpu": self.cpu_s / (self.wall_s * (os.cpu_count() or 1)),
        }


def steady_rate(ends: Sequence[float], first: int) -> float:
    """A second, of what ended at these times in order, from the end of the `first` ones on.

    All slots fill at once and so empty at about once, wave after wave: from the start, the time of a wave that has not
    ended yet would be counted, and its answers not.
    """
    if len(ends) <= first:
        return 0.0
    return (len(ends) - first) / (ends[-1] - ends[first - 1])


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95 and p99; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)}


def bodies(model: str, pictures: Sequence[bytes], tokens: int, stream: bool) -> list[bytes]:
    """A request about each picture, ready to send."""
    made = []
    for number, picture in enumerate(pictures):
        url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question(number)}]
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        streaming = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        made.append(json.dumps(body | streaming).encode())
    return made


def question(number: int) -> str:
    """The question about the picture of this number."""
    return ("Please describe this face in detail.", "What is the mood of this person?")[number % 2]


def closed(url: str, bodies: Sequence[bytes], clients: int, seconds: float, least: int = 0) -> Load:
    """Clients that each ask again as soon as they are answered.

    Args:
        url: where the server is.
        bodies: taken in turn.
        clients: at a time.
        seconds: after which nobody begins a new request.
        least: of answers, before that.
    """

    async def run(client: httpx2.AsyncClient, load: Load) -> None:
        turn = count()

        async def one_client() -> None:
            while time.monotonic() < load.start + seconds or len(load.seen) < least:
                load.seen.append(await _send(client, bodies[next(turn) % len(bodies)]))
            load.asked_until = load.asked_until or time.monotonic()

        await asyncio.gather(*(one_client() for _ in range(clients)))

    return _timed(url, run)


def opened(url: str, bodies: Sequence[bytes], rate: float, seconds: float, at_once: int = 0) -> Load:
    """Requests that come at a steady rate, whatever becomes of those before; `at_once` of them at the beginning."""

    async def run(client: httpx2.AsyncClient, load: Load) -> None:
        async def one(number: int) -> None:
            load.seen.append(await _send(client, bodies[number % len(bodies)]))

        tasks = [asyncio.create_task(one(number)) for number in range(at_once)]
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, load.start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one(at_once + number)))
        load.asked_until = time.monotonic()
        await asyncio.gather(*tasks)

    return _timed(url, run)


def _timed(url: str, run: Callable[[httpx2.AsyncClient, Load], Any]) -> Load:
    load, cpu = Load(), time.process_time()

    async def work() -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
        async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            await run(client, load)

    asyncio.run(work())
    load.wall_s, load.cpu_s = time.monotonic() - load.start, time.process_time() - cpu
    return load


async def _send(client: httpx2.AsyncClient, body: bytes) -> Seen:
    start, first = time.monotonic(), 0.0
    headers = {"content-type": "application/json"}
    parts = []
    try:
        async with client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as response:
            async for part in response.aiter_raw():
                first = first or time.monotonic() - start
                parts.append(part)
        status = response.status_code
    except httpx2.HTTPError:
        status = 0
    # A stream that has begun may yet end in an error.
    told = re.search(rb'"completion_tokens":\s*(\d+)', b"".join(parts))
    now = time.monotonic()
    return Seen(0 if status == 200 and not told else status, first, now - start, int(told[1]) if told else 0, now)


__all__ = ["Load", "Seen", "bodies", "closed", "opened", "percentiles", "question", "steady_rate"]
