"""Bodies of requests while they come in: not too large, not too slow, not too many at a time."""

import asyncio
import time
from collections import Counter

from starlette.types import Message, Receive

from uniface_ray.serve.errors import ApiError

# Who sends at least this fast has all the time it takes (as Apache's mod_reqtimeout, MinRate).
_BYTES_PER_S = 2**16
MOST_VALUES = 20_000
"""Commas of a body that is no form. Read, a value of two bytes takes a hundred times as much memory, and one that is
wrong, with the error that says so, a thousand times."""


class Budget:
    """Bytes of all requests under way in a process. One key's may be half of them, or one request of any size.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._by_owner: Counter[str] = Counter()

    def add(self, owner: str, size: int) -> None:
        """So many more of a key's are held, or fewer."""
        self.used += size
        self._by_owner[owner] += size
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    def excess(self, owner: str | None, size: int) -> str | None:
        """What is too much; None where all is well.

        Args:
            owner: of the request; None where there are no keys.
            size: of the request itself.
        """
        if self.used > self.most:
            return "the server holds as many bytes of requests as it may (guard.max_bodies_bytes)"
        held = self._by_owner[owner] if owner is not None else 0
        if held > self.most // 2 and held > size:
            return "the server holds as many bytes of this key's requests as it may (half of guard.max_bodies_bytes)"
        return None


class Body:
    """The body of one request.

    When it breaks a rule, the application is told that the client has gone, and `refusal` says what the client is told.

    Args:
        receive: of ASGI.
        most: bytes that it may have.
        timeout_s: seconds until it is there, and one more for each 64 KiB that have come.
        budget: of the process; `close` gives back what this one took.
        most_values: that JSON may have; None for a form, which has limits of its own.

    Attributes:
        owner: name of the key whose it is, None where there are none; to be set before the first byte is received.
    """

    def __init__(
        self, receive: Receive, most: int, timeout_s: float, budget: Budget, most_values: int | None = None
    ) -> None:
        self._receive = receive
        self._most = most
        self._most_values = most_values
        self._values = 0
        self._timeout_s = timeout_s
        self._budget = budget
        self._began_s: float | None = None
        self._whole = False
        self.size = 0
        self.owner: str | None = None
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
        self._budget.add(self.owner or "", -self.size)
        self.size = 0

    def _counted(self, message: Message) -> Message:
        size = len(message.get("body", b""))
        self.size += size
        self._budget.add(self.owner or "", size)
        self._whole = not message.get("more_body", False)
        if self.size > self._most:
            return self._refuse(self._too_large("more"))
        if self._most_values is not None:
            self._values += message.get("body", b"").count(b",")
            if self._values > self._most_values:
                what = f"the body has more than {self._most_values:,} values: send fewer, or shorter lists"
                return self._refuse(ApiError(413, what, code="too_many_values"))
        if excess := self._budget.excess(self.owner, self.size):
            return self._refuse(ApiError(503, f"{excess}; try again", code="overloaded", headers={"Retry-After": "1"}))
        return message

    def _refuse(self, error: ApiError) -> Message:
        self.refusal = error
        return {"type": "http.disconnect"}

    def _too_large(self, given: str) -> ApiError:
        return ApiError(413, f"the body has {given} bytes, but {self._most:,} are the most", code="body_too_large")


__all__ = ["MOST_VALUES", "Body", "Budget"]
