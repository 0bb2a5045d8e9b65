"""The door that every request passes: who asks, how much, how large, and a line in the log. Pure ASGI, for streams."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uniface_ray.core.guard_config import GuardSettings
from uniface_ray.serve.bodies import MOST_VALUES, Body, Budget
from uniface_ray.serve.errors import ApiError, busy
from uniface_ray.serve.keys import NOBODY, Key
from uniface_ray.serve.limits import Gate
from uniface_ray.serve.visitors import Visitors

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_GONE = 499  # nginx's: the client left before there was an answer


@dataclass(slots=True)
class Visit:
    """One request and what became of it, for the log and the metrics.

    Attributes:
        id: the client's own X-Request-Id, or a new one.
        method: of HTTP.
        path: without the query.
        client: its address, as the server sees it.
        key: whose request it is.
        refused: why the door sent it away, an error's code.
        status: of the response.
        bytes_in: of the body.
        bytes_out: of the response's.
        first_byte_s: seconds until the response's body began.
        seconds: until all of it was sent.
        route: the application's pattern that the path fits.
    """

    id: str
    method: str
    path: str
    client: str
    key: Key = NOBODY
    refused: str | None = None
    status: int = _GONE
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_s: float | None = None
    seconds: float = 0.0
    route: str = "other"
    headers: dict[str, str] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """For the access log: nothing that was asked or answered, no query, no key."""
        return json.dumps(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request_id": self.id,
                "key": self.key.name,
                "client": self.client,
                "method": self.method,
                "path": self.path[:200],
                "status": self.status,
                "refused": self.refused,
                "seconds": round(self.seconds, 4),
                "first_byte_s": None if self.first_byte_s is None else round(self.first_byte_s, 4),
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
            }
        )


def print_line(visit: Visit) -> None:
    """The access log."""
    print(visit.line(), file=sys.stdout, flush=True)


class Access:
    """The middleware. `scope["state"]["visit"]` is the request's `Visit`.

    Args:
        app: behind the door.
        settings: with all keys.
        gate: counts what each key asks.
        body_bytes: most bytes of an upload, by the beginning of the path; other paths have `guard.max_body_bytes`.
        ended: called with each visit, when it is over.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GuardSettings,
        gate: Gate,
        body_bytes: dict[str, int],
        ended: tuple[Callable[[Visit], None], ...] = (),
    ) -> None:
        self._app = app
        self._settings = settings
        self._gate = gate
        self._visitors = Visitors(settings)
        self._body_bytes = body_bytes
        self._budget = Budget(settings.max_bodies_bytes)
        self._uploads = Budget(settings.max_bodies_bytes)  # which wait on the disk, and take minutes
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visit = _visit(scope, headers)
        scope.setdefault("state", {})["visit"] = visit
        path = visit.path
        upload = next((n for start, n in self._body_bytes.items() if path.startswith(start)), None)
        most, budget = (self._settings.max_body_bytes, self._budget) if upload is None else (upload, self._uploads)
        form = headers.get("content-type", "").lstrip().lower().startswith("multipart/")
        body = Body(receive, most, self._settings.body_timeout_s, budget, None if form else MOST_VALUES)
        answer = _Answer(visit, body, send)
        leave = _nothing
        try:
            visit.key = self._visitors.admit(visit.method, path, headers)
            body.owner = visit.key.name if self._settings.keys else None
            body.declared(headers.get("content-length"))
            if self._gate.rule.limits and path.startswith("/v1/"):
                leave = await self._enter(visit)
            await self._app(scope, body.receive, answer.send)
            if body.refusal and not answer.begun:
                raise body.refusal
        except ApiError as error:
            await answer.refuse(error, scope, receive)
        except Exception as error:
            await self._fail(error, answer, scope, receive)
        finally:
            leave()
            self._end(visit, body, scope)

    async def _enter(self, visit: Visit) -> Callable[[], None]:
        turn, leave = await self._gate.enter(visit.key.name)
        if turn.left is not None:
            visit.headers["x-ratelimit-limit-requests"] = f"{self._gate.rule.requests_per_min:g}"
            visit.headers["x-ratelimit-remaining-requests"] = str(turn.left)
        if turn.number is None:
            raise busy(f"{turn.reason}; try again in {turn.retry_after_s:.1f} s", turn.retry_after_s)
        return leave

    async def _fail(self, error: Exception, answer: "_Answer", scope: Scope, receive: Receive) -> None:
        if answer.body.refusal:
            error = answer.body.refusal
        elif isinstance(error, ClientDisconnect):
            return
        else:
            _LOG.error("request %s: %s %s failed", answer.visit.id, scope["method"], scope["path"], exc_info=error)
        if answer.begun:
            raise error  # nothing can be said any more: the server closes the connection
        if not isinstance(error, ApiError):
            error = ApiError(500, "the server failed at this request; its log says why", code="internal_error")
        await answer.refuse(error, scope, receive)

    def _end(self, visit: Visit, body: Body, scope: Scope) -> None:
        visit.bytes_in = body.size
        visit.seconds = time.monotonic() - visit.began_s
        visit.route = getattr(scope.get("route"), "path", "other")
        body.close()
        for tell in self._ended:
            tell(visit)


class _Answer:
    """The response on its way."""

    def __init__(self, visit: Visit, body: Body, send: Send) -> None:
        self.visit = visit
        self.body = body
        self.begun = False
        self._send = send

    async def send(self, message: Message) -> None:
        """See ASGI. What an application says about a body that was refused is not for the client."""
        if self.body.refusal and not self.begun:
            return
        await self._pass(message)

    async def refuse(self, error: ApiError, scope: Scope, receive: Receive) -> None:
        """Send an error; and hang up, where the client may still be sending."""
        self.visit.refused = error.code
        response = error.response
        if scope["method"] not in ("GET", "HEAD"):
            response.headers["Connection"] = "close"
        await response(scope, receive, self._pass)

    async def _pass(self, message: Message) -> None:
        visit = self.visit
        if message["type"] == "http.response.start":
            self.begun = True
            visit.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = visit.id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.update(visit.headers)
        elif message["type"] == "http.response.body":
            if visit.first_byte_s is None:
                visit.first_byte_s = time.monotonic() - visit.began_s
            visit.bytes_out += len(message.get("body", b""))
        await self._send(message)


def _visit(scope: Scope, headers: Headers) -> Visit:
    given = headers.get("x-request-id", "")
    number = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    return Visit(number, scope["method"], scope["path"], (scope.get("client") or ["unknown"])[0])


def _nothing() -> None:
    pass


__all__ = ["Access", "Visit", "print_line"]
