"""Files over HTTP: parts of them, and forms that are none."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tests.serve.batch_client import ANN, batch_app
from tests.serve.conftest import Configure
from uniface_ray.serve import files as module
from uniface_ray.serve.loop import EngineLoop


@pytest.fixture
def app(configure: Configure, loop: EngineLoop, tmp_path: Path) -> FastAPI:
    return batch_app(configure, loop, tmp_path)


def ask(app: FastAPI, method: str, path: str, headers: dict[str, str] | None = None, **request: Any) -> httpx2.Response:
    async def send() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
            known = {"Authorization": f"Bearer {ANN}", **(headers or {})}
            return await client.request(method, path, headers=known, **request)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("headers", "status", "begin", "end"),
    [
        ({}, 200, 0, 26),
        ({"Range": "bytes=0-"}, 206, 0, 26),
        ({"Range": "bytes=9-20"}, 206, 9, 21),
        ({"Range": "bytes=10-19"}, 206, 10, 20),
        ({"Range": "bytes=25-999"}, 206, 25, 26),
        ({"Range": "bytes=-7"}, 206, 19, 26),
        ({"Range": "bytes=-99"}, 206, 0, 26),
        ({"Range": "bytes=0-1,3-4"}, 200, 0, 26),
        ({"Range": "bytes=-"}, 200, 0, 26),
        ({"Range": "lines=1-2"}, 200, 0, 26),
        ({"Range": "bytes=5-", "If-Range": '"another"'}, 200, 0, 26),
        ({"Range": "bytes=26-"}, 416, 0, 0),
        ({"Range": "bytes=5-4"}, 416, 0, 0),
        ({"Range": "bytes=-0"}, 416, 0, 0),
    ],
)
def test_a_file_can_be_had_in_parts(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int, begin: int, end: int
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 10)
    content = b"abcdefghijklmnopqrstuvwxyz"
    form = {"files": {"file": ("a.jsonl", content)}, "data": {"purpose": "batch"}}
    number = ask(app, "POST", "/v1/files", **form).json()["id"]
    answer = ask(app, "GET", f"/v1/files/{number}/content", headers)
    assert answer.status_code == status
    if status == 416:
        assert answer.json()["error"]["code"] == "invalid_range"
        assert answer.headers["Content-Range"] == "bytes */26"
        return
    assert answer.content == content[begin:end]
    assert answer.headers["Content-Length"] == str(end - begin)
    assert answer.headers.get("Content-Range") == (f"bytes {begin}-{end - 1}/26" if status == 206 else None)


def test_a_form_that_is_none_is_no_line_of_the_log(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = ask(app, "POST", "/v1/files", headers, content=b"no form")
    assert answer.status_code == 400
    assert [one.name for one in caplog.records if one.name.startswith("python_multipart")] == []
