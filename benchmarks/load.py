"""A bounded load generator: clients of the chat API on this machine, what they saw, and what they cost."""

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    """

    status: int
    first_s: float
    total_s: float
    tokens: int


@dataclass(slots=True)
class Load:
    """What all requests of a time have seen.

    Attributes:
        seen: of each, in the order of their ends.
        wall_s: from the first start to the last end.
        cpu_s: of this process meanwhile.
    """

    seen: list[Seen] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def numbers(self) -> dict[str, Any]:
        """Rates of answers, and percentiles of seconds."""
        good = [one for one in self.seen if one.status == 200]
        refused = [one for one in self.seen if one.status == 429]
        others = len(self.seen) - len(good) - len(refused)
        return {
            "answers": len(good),
            "answers_per_s": len(good) / self.wall_s,
            "tokens_per_s": sum(one.tokens for one in good) / self.wall_s,
            "latency_s": percentiles([one.total_s for one in good]),
            "first_token_s": percentiles([one.first_s for one in good]),
            "refused_429": len(refused),
            "refused_latency_s": percentiles([one.total_s for one in refused]),
            "other_statuses": others,
            "wall_s": self.wall_s,
            "generator_cpu_s": self.cpu_s,
        }


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


def closed(url: str, bodies: Sequence[bytes], clients: int, seconds: float, requests: int = 10**9) -> Load:
    """Clients that each ask again as soon as they are answered.

    Args:
        url: where the server is.
        bodies: taken in turn.
        clients: at a time.
        seconds: after which nobody begins a new request.
        requests: the most of them.
    """

    async def run(client: httpx2.AsyncClient, load: Load) -> None:
        until, turn = time.monotonic() + seconds, iter(range(requests))

        async def one_client() -> None:
            while time.monotonic() < until and (number := next(turn, None)) is not None:
                load.seen.append(await _send(client, bodies[number % len(bodies)]))

        await asyncio.gather(*(one_client() for _ in range(clients)))

    return _timed(url, run)


def opened(url: str, bodies: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Requests that come at a steady rate, whatever becomes of those before."""

    async def run(client: httpx2.AsyncClient, load: Load) -> None:
        async def one(number: int) -> None:
            load.seen.append(await _send(client, bodies[number % len(bodies)]))

        start, tasks = time.monotonic(), []
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one(number)))
        await asyncio.gather(*tasks)

    return _timed(url, run)


def _timed(url: str, run: Callable[[httpx2.AsyncClient, Load], Any]) -> Load:
    load = Load()

    async def work() -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
        async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            await run(client, load)

    start, cpu = time.monotonic(), time.process_time()
    asyncio.run(work())
    load.wall_s, load.cpu_s = time.monotonic() - start, time.process_time() - cpu
    return load


async def _send(client: httpx2.AsyncClient, body: bytes) -> Seen:
    start, first = time.monotonic(), 0.0
    headers = {"content-type": "application/json"}
    async with client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as response:
        parts = []
        async for part in response.aiter_raw():
            if not first:
                first = time.monotonic() - start
            parts.append(part)
    # A stream that has begun may yet end in an error.
    told = re.search(rb'"completion_tokens":\s*(\d+)', b"".join(parts))
    status = 0 if response.status_code == 200 and not told else response.status_code
    return Seen(status, first, time.monotonic() - start, int(told[1]) if told else 0)


__all__ = ["Load", "Seen", "bodies", "closed", "opened", "percentiles", "question"]
