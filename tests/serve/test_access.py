"""The door: who comes in, what is told of it."""

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.serve.door import ANN, BOB, FREE, WITH_KEYS, Door, bearer, talk
from uniface_ray.core.guard_config import GuardSettings
from uniface_ray.serve.access import Access
from uniface_ray.serve.limits import Gate, Rule


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
