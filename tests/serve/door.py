"""A door with a small application behind it, and ways to knock."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from uniface_ray.core.guard_config import GuardSettings
from uniface_ray.serve.access import Access, Visit
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.limits import Gate, Rule

ANN, ANN_LINE = make_key("ann")
BOB, BOB_LINE = make_key("bob")
WITH_KEYS = GuardSettings(keys=(ANN_LINE, f"{BOB_LINE}:chat"))
NO_KEYS = GuardSettings()
FREE = Rule(None, None, 60)


async def echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number}".encode()

    return StreamingResponse(pieces())


async def fail(request: Request) -> Response:
    raise ZeroDivisionError("secret")


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


PATHS = {
    "/": hello,
    "/v1/chat/completions": echo,
    "/v1/fail": fail,
    "/v1/files": echo,
    "/v1/images/generations": echo,
    "/stream": stream,
    "/fail": fail,
}


class Door:
    """The application, its door, and the visits that have ended."""

    def __init__(self, settings: GuardSettings = NO_KEYS, rule: Rule = FREE) -> None:
        self.visits: list[Visit] = []
        self.app = Starlette(routes=[Route(path, handler, methods=["GET", "POST"]) for path, handler in PATHS.items()])
        self.app.add_middleware(
            Access, settings=settings, gate=Gate(rule), body_bytes={"/v1/files": 5000}, ended=(self.visits.append,)
        )

    def ask(self, method: str, path: str, host: str = "localhost", **request: Any) -> httpx2.Response:
        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def talk(door: Door, messages: list[Message], **scope: Any) -> list[Message]:
    """Speak ASGI to the door: after the last message, silence."""
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), *scope.pop("headers", [])]
    asked = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    asyncio.run(door.app({**asked, **scope}, receive, send))
    return sent
