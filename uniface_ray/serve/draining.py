"""The end of a door: nobody new, and time for those who are in."""

import asyncio
import time

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from uniface_ray.serve.errors import ApiError


class Draining:
    """Middleware that counts who is in, and lets nobody in once it is closed; health is always told."""

    def __init__(self, app: ASGIApp, state: "Presence") -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ("/healthz", "/readyz"):
            await self.app(scope, receive, send)
            return
        if self.state.closed:
            gone = ApiError(
                503, "the server is going down; try again", code="shutting_down", headers={"Retry-After": "5"}
            )
            await gone.response(scope, receive, send)
            return
        self.state.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.state.inside -= 1


class Presence:
    """Who is in.

    Args:
        patience_s: that those inside have once it is closed.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.inside = 0
        self.closed = False


async def drain(app: FastAPI) -> int:
    """Close the door of `app`, and wait for those inside; how many are left when patience is at its end."""
    presence: Presence = app.state.presence
    presence.closed = True
    until = time.monotonic() + presence.patience_s
    while presence.inside and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return presence.inside


__all__ = ["Draining", "Presence", "drain"]
