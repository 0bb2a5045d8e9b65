"""Errors, whatever their cause, in OpenAI's shape."""

import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.serve.errors import ApiError, add_handlers, busy, rejected


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int


def app() -> FastAPI:
    made = FastAPI()
    add_handlers(made)

    @made.post("/body")
    async def body(body: Body) -> None:
        if body.count == 0:
            raise ZeroDivisionError("secret")
        if body.count == 1:
            raise busy("no room", 7.2)
        raise rejected(Reject(RejectKind.TOO_LARGE, "big", "decode"), "image")

    return made


def post(**request: Any) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app(), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            method = request.pop("method", "POST")
            return await client.request(method, request.pop("path", "/body"), **request)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        ({"json": {"count": "x"}}, 400, {"param": "count", "code": "invalid_value"}),
        ({"json": {}}, 400, {"param": "count", "code": "missing_required_parameter"}),
        ({"json": {"count": 2, "size": 1}}, 400, {"param": "size", "code": "unknown_parameter"}),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, {"code": "invalid_json"}),
        ({"path": "/nowhere"}, 404, {"code": "not_found", "type": "invalid_request_error"}),
        ({"method": "GET"}, 405, {"code": "method_not_allowed"}),
        ({"json": {"count": 0}}, 500, {"type": "server_error", "code": "internal_error"}),
        ({"json": {"count": 1}}, 429, {"type": "rate_limit_error", "message": "no room"}),
        ({"json": {"count": 2}}, 413, {"message": "big", "param": "image", "code": "too_large"}),
    ],
)
def test_every_error_has_the_same_shape(request_: dict[str, Any], status: int, error: dict[str, str]) -> None:
    response = post(**request_)
    assert response.status_code == status
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert error.items() <= body["error"].items()
    assert "secret" not in response.text
    assert response.headers.get("Retry-After") == ("8" if status == 429 else None)


def test_an_error_survives_the_way_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(busy("no room", 2)))
    assert isinstance(error, ApiError)
    assert (error.status, error.body, error.headers) == (429, busy("no room", 2).body, {"Retry-After": "2"})
