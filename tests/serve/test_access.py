"""The door, with a small application behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

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


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/chat/completions", {}, 401),
        ("/v1/chat/completions", bearer("uf-wrong"), 401),
        ("/v1/chat/completions", {"Authorization": f"Basic {ANN}"}, 401),
        ("/v1/chat/completions", {"Authorization": ANN}, 401),
        ("/v1/chat/completions", bearer(ANN), 200),
        ("/v1/chat/completions", {"Authorization": f"bearer  {ANN} "}, 200),
        ("/v1/chat/completions", bearer(BOB), 200),
        ("/v1/images/generations", bearer(BOB), 403),
        ("/v1/files", bearer(BOB), 403),
        ("/v1/files", bearer(ANN), 200),
        ("/stream", {}, 401),
        ("/nowhere", {}, 401),
        ("/nowhere", bearer(BOB), 404),
    ],
)
def test_keys_open_what_they_may(path: str, headers: dict[str, str], status: int) -> None:
    door = Door(WITH_KEYS)
    response = door.ask("POST", path, host="faces.example.com", headers=headers)
    assert response.status_code == status
    if status in (401, 403):
        assert list(response.json()) == ["error"]
        assert response.headers["Connection"] == "close"
        assert ("WWW-Authenticate" in response.headers) == (status == 401)


def test_the_page_itself_needs_no_key() -> None:
    door = Door(WITH_KEYS)
    assert door.ask("GET", "/").status_code == 200
    assert door.ask("POST", "/").status_code == 401


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("localhost:8000", {}, 200),
        ("127.0.0.1:8000", {"Origin": "http://127.0.0.1:8000"}, 200),
        ("[::1]:8000", {}, 200),
        ("localhost:8000", {"Origin": "http://evil.example.com"}, 403),
        ("localhost:8000", {"Origin": "http://localhost:9000"}, 403),
        ("localhost:8000", {"Origin": "null"}, 403),
        ("localhost:8000", {"Origin": "http://[x"}, 403),
        ("evil.example.com:8000", {"Origin": "http://evil.example.com:8000"}, 403),
        ("localhost.evil.example.com", {}, 403),
        ("192.168.1.7:8000", {}, 403),
    ],
)
def test_without_keys_only_this_machine_s_own_pages(host: str, headers: dict[str, str], status: int) -> None:
    response = Door().ask("POST", "/v1/chat/completions", headers={**headers, "Host": host})
    assert response.status_code == status


def test_an_open_server_answers_to_any_name_but_not_to_foreign_pages() -> None:
    door = Door(GuardSettings(open=True))
    assert door.ask("GET", "/", host="faces.example.com").status_code == 200
    assert (
        door.ask("GET", "/", host="faces.example.com", headers={"Origin": "http://evil.example.com"}).status_code == 403
    )


def test_limits_are_told_with_when_to_come_again() -> None:
    door = Door(WITH_KEYS, Rule(2, None, 60))
    for left in ("1", "0"):
        response = door.ask("POST", "/v1/chat/completions", headers=bearer(ANN))
        assert response.status_code == 200
        assert response.headers["x-ratelimit-limit-requests"] == "2"
        assert response.headers["x-ratelimit-remaining-requests"] == left
    refused = door.ask("POST", "/v1/chat/completions", headers=bearer(ANN))
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "30"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert door.ask("POST", "/v1/chat/completions", headers=bearer(BOB)).status_code == 200
    assert door.ask("GET", "/").status_code == 200, "the page is not counted"


def test_a_turn_ends_with_its_request_however_that_ends() -> None:
    door = Door(rule=Rule(None, 1, 60))
    for path, status in (("/v1/chat/completions", 200), ("/v1/nowhere", 404), ("/v1/fail", 500)):
        for _ in range(3):
            assert door.ask("POST", path).status_code == status
    for _ in range(3):
        assert (
            talk(door, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]) == []
        )
        assert door.visits[-1].refused is None
    assert door.ask("POST", "/v1/chat/completions").status_code == 200


def test_bodies_have_a_size() -> None:
    door = Door(GuardSettings(max_body_bytes=2000))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(1000)

    assert door.ask("POST", "/v1/chat/completions", content=bytes(2000)).json() == {"bytes": 2000}
    assert door.ask("POST", "/v1/files", content=bytes(5000)).json() == {"bytes": 5000}
    for content in (bytes(2001), pieces()):
        response = door.ask("POST", "/v1/chat/completions", content=content)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
        assert response.headers["Connection"] == "close"
    lying = door.ask("POST", "/v1/chat/completions", content=bytes(5), headers={"Content-Length": "x"})
    assert lying.status_code == 400


def test_all_bodies_together_have_a_size_that_is_given_back() -> None:
    door = Door(GuardSettings(max_bodies_bytes=1500))
    for _ in range(5):
        assert door.ask("POST", "/v1/files", content=bytes(1400)).status_code == 200
    refused = door.ask("POST", "/v1/files", content=bytes(1600))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert door.ask("POST", "/v1/files", content=bytes(1400)).status_code == 200


def test_no_key_s_bodies_and_no_uploads_keep_others_out() -> None:
    door = Door(GuardSettings(max_bodies_bytes=2000, keys=(ANN_LINE, BOB_LINE)))

    async def play() -> tuple[list[int], int]:
        ended = asyncio.Event()

        async def hanging() -> AsyncIterator[bytes]:
            yield bytes(900)
            await ended.wait()

        transport = httpx2.ASGITransport(door.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def post(key: str, path: str, content: Any) -> int:
                return (await client.post(path, content=content, headers=bearer(key))).status_code

            hung = [asyncio.create_task(post(ANN, path, hanging())) for path in ("/v1/files", "/v1/chat/completions")]
            await asyncio.sleep(0.01)
            keys = (ANN, BOB)
            now = [await post(key, path, bytes(1050)) for key in keys for path in ("/v1/chat/completions", "/v1/files")]
            ended.set()
            assert await asyncio.gather(*hung) == [200, 200]
            return now, await post(ANN, "/v1/chat/completions", bytes(1900))

    assert asyncio.run(play()) == ([503, 503, 200, 200], 200)


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


def test_a_body_that_never_ends_is_not_waited_for() -> None:
    door = Door(GuardSettings(body_timeout_s=0.05))
    sent = talk(door, [{"type": "http.request", "body": b"{", "more_body": True}])
    assert sent[0]["status"] == 408
    assert door.visits[0].refused == "slow_body"


def test_a_client_that_leaves_is_no_error() -> None:
    door = Door()
    body: Message = {"type": "http.request", "body": b"{", "more_body": True}
    assert talk(door, [body, {"type": "http.disconnect"}]) == []
    assert (door.visits[0].status, door.visits[0].bytes_in) == (499, 1)
    assert door.ask("POST", "/v1/chat/completions").status_code == 200


def test_streams_stream() -> None:
    door = Door()
    sent = talk(door, [{"type": "http.request", "body": b"", "more_body": False}], method="GET", path="/stream")
    assert [message.get("body") for message in sent[1:4]] == [b"0", b"1", b"2"]
    (visit,) = door.visits
    assert (visit.status, visit.bytes_out, visit.route) == (200, 3, "/stream")
    assert visit.first_byte_s is not None
    assert 0 < visit.first_byte_s <= visit.seconds


def test_a_failure_is_an_error_of_our_shape(caplog: pytest.LogCaptureFixture) -> None:
    response = Door().ask("POST", "/fail", headers={"X-Request-Id": "abc"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] == "abc"
    assert "request abc: POST /fail failed" in caplog.text


def test_request_ids_are_kept_or_made() -> None:
    door = Door()
    assert door.ask("GET", "/", headers={"X-Request-Id": "a-b.c:1"}).headers["X-Request-Id"] == "a-b.c:1"
    made = [door.ask("GET", "/", headers=headers).headers["X-Request-Id"] for headers in ({}, {"X-Request-Id": "a b"})]
    assert all(len(number) == 32 for number in made)
    assert made[0] != made[1]


def test_the_log_says_who_and_what_but_nothing_of_the_content() -> None:
    door = Door(WITH_KEYS)
    secret = "data:image/png;base64,QUJD"
    door.ask("POST", f"/v1/chat/completions?token={secret}", json={"prompt": secret}, headers=bearer(ANN))
    (visit,) = door.visits
    line = json.loads(visit.line())
    assert line["key"] == "ann"
    assert (line["path"], line["status"], line["refused"]) == ("/v1/chat/completions", 200, None)
    assert line["bytes_in"] > 0
    assert secret not in visit.line()
    assert ANN not in visit.line()


def test_the_door_lets_the_server_s_own_messages_through() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def nowhere(message: Message) -> None: ...

    asyncio.run(Access(app, WITH_KEYS, Gate(FREE), {})({"type": "lifespan"}, nothing, nowhere))
    assert heard == ["lifespan"]
