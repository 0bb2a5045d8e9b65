"""The door and bodies: how large, how slow, how many."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from starlette.types import Message

from tests.serve.door import ANN, ANN_LINE, BOB, BOB_LINE, Door, bearer, talk
from uniface_ray.core.guard_config import GuardSettings


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


def test_json_has_so_many_values_and_a_form_any_bytes() -> None:
    door = Door()
    body, form = b"," * 20_001, {"Content-Type": "Multipart/Form-Data; boundary=x"}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield body[:7000]

    for content in (body, pieces()):
        refused = door.ask("POST", "/v1/chat/completions", content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many_values")
    assert door.ask("POST", "/v1/chat/completions", content=body[1:]).status_code == 200
    assert door.ask("POST", "/v1/chat/completions", content=body, headers=form).status_code == 200


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
