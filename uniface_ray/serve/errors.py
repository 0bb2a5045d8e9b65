"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from uniface_ray.core.records import Reject, RejectKind

_LOG = logging.getLogger(__name__)
_INVALID, _SERVER = "invalid_request_error", "server_error"
_STATUS = {
    RejectKind.TOO_LARGE: 413,
    RejectKind.TIMEOUT: 504,
    RejectKind.FETCH_FAILED: 400,
    RejectKind.OUT_OF_MEMORY: 503,
    RejectKind.CRASHED: 500,
    RejectKind.MODEL_ERROR: 500,
}


class ApiError(Exception):
    """What the client is told.

    Args:
        status: of HTTP.
        message: for people: what was given, what is allowed, how to mend it.
        type: OpenAI's word for the kind; by the status where None.
        param: the field of the request that is to blame.
        code: for programs.
        headers: of the response, such as Retry-After.

    Attributes:
        replica: that has no room for the request, where another one may have; not for the client.
    """

    replica: str | None = None

    def __init__(
        self,
        status: int,
        message: str,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, type, param, code, headers)
        self.status = status
        self.message = message
        self.type = type or (_SERVER if status >= 500 else _INVALID)
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """Of the response, or of an event in a stream that has begun."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """With which the request ends."""
        return JSONResponse(self.body, self.status, self.headers)


def busy(message: str, retry_after_s: float) -> ApiError:
    """There is no room: 429, and when to come again."""
    wait = str(max(1, math.ceil(retry_after_s)))
    return ApiError(429, message, "rate_limit_error", code="rate_limit_exceeded", headers={"Retry-After": wait})


def rejected(reject: Reject, param: str | None = None) -> ApiError:
    """The error of a request that an engine, a decoder or a fetcher could not do."""
    status = _STATUS.get(reject.kind, 400)
    return ApiError(status, reject.message, param=param if status < 500 else None, code=str(reject.kind))


def wrong_kind(kind: str, wanted: str) -> ApiError:
    """The error of a body that says by its Content-Type that it is something else."""
    what = f"the body's Content-Type is {kind!r:.80}, but this takes {wanted}"
    return ApiError(400, what, code="invalid_content_type")


def invalid(first: Mapping[str, Any], place: Sequence[int | str]) -> ApiError:
    """The error of a request that breaks its schema.

    Args:
        first: what pydantic finds.
        place: where, from the request's body on.
    """
    param = ".".join(map(str, place))
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param}: there is no such parameter", param=param, code="unknown_parameter")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param or 'the body'}: {what}", param=param or None, code=code)


def add_handlers(app: FastAPI) -> None:
    """Let every error of `app` come out in OpenAI's shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _our_fault)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # it was not read as JSON
        return wrong_kind(request.headers.get("content-type", ""), "JSON (application/json)").response
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json").response
    return invalid(first, first["loc"][1:]).response  # the first part says body, query or path


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    what = str(error.detail)
    if what in ("Not Found", "Method Not Allowed"):
        what = f"{request.method} {request.url.path:.80} is nothing that this server does; /openapi.json says what is"
    elif isinstance(error.__cause__, RecursionError):
        what = "the body is nested too deeply"
    elif isinstance(error.__cause__, ValueError):  # no UTF-8, or a number of thousands of digits
        what = f"the body cannot be read: {error.__cause__!s:.100}"
    return ApiError(error.status_code, what, code=code, headers=error.headers).response


async def _our_fault(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return ApiError(500, "the server failed at this request; its log says why", code="internal_error").response


__all__ = ["ApiError", "add_handlers", "busy", "invalid", "rejected", "wrong_kind"]
