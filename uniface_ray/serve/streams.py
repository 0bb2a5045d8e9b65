"""Streams of what models say: several as one, to clients as server-sent events, and ended when the client has gone."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from uniface_ray.serve.errors import ApiError

T = TypeVar("T")


async def together(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """What comes of any of the streams, with its number. An error of one is that of all, and ends the others."""
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue()

    async def follow(number: int, stream: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(stream):
                async for one in stream:
                    queue.put_nowait((number, one))
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(follow(number, stream)) for number, stream in enumerate(streams)]
    left = len(tasks)
    try:
        while left:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def events(request: Request, stream: AsyncGenerator[dict[str, Any]], end: str = "") -> StreamingResponse:
    """Server-sent events of what a stream gives, named by its `type` where it has one.

    The response begins with the first of them, so that an error before it has its own status. One after it is an event.
    A client that has gone closes the stream.

    Args:
        request: of the client.
        stream: of events.
        end: what is sent last, `data: [DONE]` of the chat API.
    """
    first = await while_connected(request, anext(stream))

    async def lines() -> AsyncIterator[str]:
        async with aclosing(stream):
            try:
                yield _event(first)
                async for one in stream:
                    yield _event(one)
                yield end
            except ApiError as error:
                yield _event(error.body)

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away.

    Raises:
        ApiError: it has gone; nobody will read this.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client has gone")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(body: dict[str, Any]) -> str:
    name = f"event: {body['type']}\n" if "type" in body else ""
    return f"{name}data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


__all__ = ["events", "together", "while_connected"]
