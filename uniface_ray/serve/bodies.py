"""Bodies of requests while they come in: not too large, not too slow, not too many at a time."""

import asyncio
import time

from starlette.types import Message, Receive

from uniface_ray.serve.errors import ApiError

# Who sends at least this fast has all the time it takes (as Apache's mod_reqtimeout, MinRate).
_BYTES_PER_S = 2**16


class Budget:
    """Bytes of all requests under way in a process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0


class Body:
    """The body of one request.

    When it breaks a rule, the application is told that the client has gone, and `refusal` says what the client is told.

    Args:
        receive: of ASGI.
        most: bytes that it may have.
        timeout_s: seconds until it is there, and one more for each 64 KiB that have come.
        budget: of the process; `close` gives back what this one took.
    """

    def __init__(self, receive: Receive, most: int, timeout_s: float, budget: Budget) -> None:
        self._receive = receive
        self._most = most
        self._timeout_s = timeout_s
        self._budget = budget
        self._began_s: float | None = None
        self._whole = False
        self.size = 0
        self.refusal: ApiError | None = None

    def declared(self, length: str | None) -> None:
        """Its Content-Length: what is too large need not be read.

        Raises:
            ApiError: 400 or 413.
        """
        if length is None:
            return
        if not (length.isascii() and length.isdigit()):
            raise ApiError(400, f"Content-Length is {length!r:.50}, which is no number", code="invalid_header")
        if int(length[:20]) > self._most:
            raise self._too_large(f"{int(length[:20]):,}")

    async def receive(self) -> Message:
        """See ASGI."""
        if self.refusal:
            return {"type": "http.disconnect"}
        if self._whole:
            return await self._receive()
        now = time.monotonic()
        self._began_s = self._began_s or now
        deadline = self._began_s + self._timeout_s + self.size / _BYTES_PER_S
        try:
            async with asyncio.timeout(deadline - now):
                message = await self._receive()
        except TimeoutError:
            return self._refuse(
                ApiError(408, f"only {self.size:,} bytes came within guard.body_timeout_s", code="slow_body")
            )
        return self._counted(message)

    def close(self) -> None:
        """The request has ended."""
        self._budget.used -= self.size
        self.size = 0

    def _counted(self, message: Message) -> Message:
        size = len(message.get("body", b""))
        self.size += size
        self._budget.used += size
        self._whole = not message.get("more_body", False)
        if self.size > self._most:
            return self._refuse(self._too_large("more"))
        if self._budget.used > self._budget.most:
            what = "the server holds as many bytes of requests as it may (guard.max_bodies_bytes); try again"
            return self._refuse(ApiError(503, what, code="overloaded", headers={"Retry-After": "1"}))
        return message

    def _refuse(self, error: ApiError) -> Message:
        self.refusal = error
        return {"type": "http.disconnect"}

    def _too_large(self, given: str) -> ApiError:
        return ApiError(413, f"the body has {given} bytes, but {self._most:,} are the most", code="body_too_large")


__all__ = ["Body", "Budget"]
