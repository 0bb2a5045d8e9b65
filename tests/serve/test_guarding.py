"""A whole server with its door, against those who mean it no good."""

import asyncio
import base64
import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.pictures import bomb, encoded, odd_files, picture
from tests.serve.conftest import Configure, serving
from uniface_ray.serve.app import build_app
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.loop import EngineLoop

KEY, LINE = make_key("ann")
MOST = 300_000
FACE = encoded(picture())


@pytest.fixture(scope="module")
def guarded(configure: Configure, loop: EngineLoop) -> Iterator[str]:
    """A server with a key, and limits that a test can break."""
    config = configure(
        f"guard.keys=[{LINE}]",
        f"guard.max_body_bytes={MOST}",
        "guard.body_timeout_s=0.5",
        "guard.decoders=1",
        "decode.max_pixels=1000000",
    )
    with serving(build_app(config, {"random": loop})) as url:
        yield url


def chat(image: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "who?"}]
    return {"model": "random", "max_tokens": 2, "messages": [{"role": "user", "content": parts}]}


def inline(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_the_official_client_is_told_what_is_wrong_with_its_key(guarded: str) -> None:
    body = chat(inline(FACE))
    with pytest.raises(openai.AuthenticationError) as error:
        openai.OpenAI(base_url=f"{guarded}/v1", api_key="uf-wrong").chat.completions.create(**body)
    assert error.value.code == "invalid_api_key"
    answer = openai.OpenAI(base_url=f"{guarded}/v1", api_key=KEY).chat.completions.create(**body)
    assert answer._request_id
    assert answer.choices[0].message.content is not None


def spoilt(data: bytes, draw: random.Random) -> bytes:
    """Some bytes are others."""
    wild = bytearray(data or b"?")
    for _ in range(draw.randint(1, 20)):
        wild[draw.randrange(len(wild))] = draw.randrange(256)
    return bytes(wild)


def hostile_bodies() -> list[bytes]:
    """200 of them, seeded."""
    draw = random.Random(7)
    odd = [data for data, kind in odd_files(encoded(picture(0, (300, 200)))).values() if kind]
    images = [
        *(inline(data) for data in odd),
        inline(bomb()),
        inline(bomb(1001, 1000)),
        "data:image/png;base64,%%%%",
        "data:image/png;base64,QUJ",
        "data:image/png;base64,QUJDÜ",
        "data:image/png;base64,",
        "data:image/png," + "A" * 100,
        "data:",
        "",
        "https://127.0.0.1/face.png",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "s3://bucket/face.png",
        "javascript:alert(1)",
        "\x00",
        "\ud800",
    ]
    bodies = [json.dumps(chat(image)).encode() for image in images]
    good = json.dumps(chat(inline(FACE))).encode()
    bodies += [good[:-1], good[: len(good) // 2], b"", b"null", b"[]", b"{}", b'"', b"\xff\xfe", b"[" * 100_000]
    bodies += [
        b'{"a":' * 50_000,
        b"1" * 100_000,
        b'{"messages":' + b"9" * 5000 + b"}",
        bytes(MOST + 1),
        b"{" + bytes(MOST),
    ]
    pictures = [encoded(picture(1, (64, 48)), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    while len(bodies) < 200:
        if len(bodies) % 2:
            bodies.append(json.dumps(chat(inline(spoilt(draw.choice(pictures), draw)))).encode())
        else:
            bodies.append(spoilt(draw.choice(bodies)[: MOST + 1], draw))
    return bodies


def test_hostile_bodies_change_neither_memory_nor_health(guarded: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    bodies = hostile_bodies()
    assert len(bodies) == 200

    async def attack(rounds: list[bytes]) -> list[int]:
        async with httpx2.AsyncClient(base_url=guarded, headers=headers, timeout=60) as client:
            turns = asyncio.Semaphore(8)

            async def one(body: bytes) -> int:
                async with turns:
                    try:
                        return (await client.post("/v1/chat/completions", content=body)).status_code
                    except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
                        return 413  # the server hung up while we were still sending

            return await asyncio.gather(*(one(body) for body in rounds))

    asyncio.run(attack(bodies))  # once, for what grows when it is first used
    before = psutil.Process().memory_info().rss
    statuses = asyncio.run(attack(bodies))
    grown = psutil.Process().memory_info().rss - before
    assert {status for status in statuses if status >= 500} == set()
    assert statuses.count(413) >= 2
    assert sum(status == 200 for status in statuses) < 100, "some are still pictures, if ugly ones"
    assert grown < 40 * 2**20
    assert httpx2.get(f"{guarded}/readyz").json() == {"status": "ready"}
    good = httpx2.post(f"{guarded}/v1/chat/completions", json=chat(inline(FACE)), headers=headers, timeout=60)
    assert good.status_code == 200


def test_slow_bodies_are_hung_up_on_and_the_others_are_served(guarded: str) -> None:
    host, port = guarded.removeprefix("http://").split(":")
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {KEY}",
        "Content-Length: 9000",
    ]
    head = "\r\n".join([*lines, "", "{"]).encode()
    slow = [socket.create_connection((host, int(port)), 30) for _ in range(30)]
    try:
        for one in slow:
            one.sendall(head)
        headers = {"Authorization": f"Bearer {KEY}"}
        good = httpx2.post(f"{guarded}/v1/chat/completions", json=chat(inline(FACE)), headers=headers, timeout=60)
        assert good.status_code == 200
        for one in slow:
            assert one.recv(100).startswith(b"HTTP/1.1 408 ")
            while one.recv(1000):
                pass  # until the server hangs up
    finally:
        for one in slow:
            one.close()


def test_without_permission_no_address_is_fetched(guarded: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    body = chat("https://faces.example.com/face.png")
    response = httpx2.post(f"{guarded}/v1/chat/completions", json=body, headers=headers)
    assert response.json()["error"]["code"] == "invalid_image_url"
