"""A model elsewhere: what becomes of a request whose replica is lost. The handle is a plain object, without Ray."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from uniface_ray.engine.protocol import Ask, Draw, Drawing, Request, Text
from uniface_ray.serve.errors import ApiError, busy
from uniface_ray.serve.loop import REPLICA_DIED, REPLICA_GONE
from uniface_ray.serve.models import News
from uniface_ray.serve.remote_model import RemoteModel

PIXELS = np.zeros((3, 8, 8), np.uint8)


class Handle:
    """Each call fails or answers as the next of `plays` says: what it gives, and how it ends."""

    def __init__(self, *plays: tuple[list[News], Exception | None]) -> None:
        self.plays, self.calls, self.cancelled = list(plays), 0, 0
        self.full: list[list[str]] = []
        self.answer = self.watch = self

    def options(self, stream: bool) -> "Handle":
        return self

    def remote(self, request: Request, full: Sequence[str] = ()) -> "Response":
        self.full.append([*full])
        news, error = self.plays[self.calls]
        self.calls += 1
        return Response(news, error, self)


class Response:
    def __init__(self, news: list[News], error: Exception | None, handle: Handle) -> None:
        self.news, self.error, self.handle = news, error, handle

    def __await__(self) -> Any:
        async def wait() -> News:
            if self.error:
                raise self.error
            return self.news[-1]

        return wait().__await__()

    async def __aiter__(self) -> AsyncGenerator[News]:
        for one in self.news:
            yield one
        if self.error:
            raise self.error

    def cancel(self) -> None:
        self.handle.cancelled += 1


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.serve.remote_model._WAIT_S", 0.0)


def asked(handle: Handle, request: Request, replicas: int = 1) -> list[News]:
    async def ask() -> list[News]:
        model = RemoteModel(handle, 8, 3, (9, 2), replicas)  # type: ignore[arg-type]
        return [news async for news in model.ask(request)]

    return asyncio.run(ask())


def text(words: str, last: bool = False) -> News:
    return News(Text(words, len(words)), last)


def image(level: int, last: bool = False) -> News:
    return News(Drawing(np.full((3, 8, 8), level, np.uint8), ""), last)


def gone() -> Exception:
    return ApiError(503, "it went away", code=REPLICA_GONE)


DIED: list[Callable[[], Exception]] = [RayActorError, lambda: ApiError(503, "it failed", code=REPLICA_DIED)]


@pytest.mark.parametrize("died", DIED)
def test_a_lost_replica_is_asked_again(died: Callable[[], Exception]) -> None:
    handle = Handle(([], gone()), ([], died()), ([], gone()), ([text("done", True)], None))
    assert asked(handle, Ask(PIXELS, "?", 4)) == [text("done", True)]
    assert handle.calls == 4


@pytest.mark.parametrize("died", DIED)
def test_a_request_that_two_replicas_die_of_gets_no_third(died: Callable[[], Exception]) -> None:
    handle = Handle(*[([], died())] * 9)
    with pytest.raises(ApiError, match="2 replicas were lost") as caught:
        asked(handle, Ask(PIXELS, "?", 4))
    assert (caught.value.status, handle.calls) == (500, 2)
    assert caught.value.headers == {"x-should-retry": "false"}


def test_unfinished_images_are_seen_once_each() -> None:
    first = [image(1), image(2)]
    again = [image(1), image(2), image(3), image(4, True)]
    found = asked(Handle((first, RayActorError()), (again, None)), Draw("x", 0, 5, 0, 0, "cosine", partials=3))
    assert [news.outcome.pixels[0, 0, 0] for news in found if isinstance(news.outcome, Drawing)] == [1, 2, 3, 4]


def test_replicas_that_are_always_lost_are_an_error_in_the_end() -> None:
    handle = Handle(*[([], gone())] * 9)
    with pytest.raises(ApiError, match="again and again") as caught:
        asked(handle, Ask(PIXELS, "?", 4))
    assert (caught.value.status, handle.calls) == (503, 6)


def test_what_no_replica_can_mend_is_told_at_once() -> None:
    full = Handle(([], BackPressureError(3, 3)))
    with pytest.raises(ApiError) as caught:
        asked(full, Ask(PIXELS, "?", 4))
    assert (caught.value.status, caught.value.headers, full.calls) == (429, {"Retry-After": "1"}, 1)
    with pytest.raises(ApiError, match="no replica that works") as caught:
        asked(Handle(([], DeploymentUnavailableError(DeploymentID("model-x")))), Ask(PIXELS, "?", 4))
    assert caught.value.status == 503
    refused = busy("no room", 3)
    with pytest.raises(ApiError) as caught:
        asked(Handle(([], refused)), Ask(PIXELS, "?", 4))
    assert caught.value is refused


def no_room(replica: str | None) -> ApiError:
    error = busy("no room", 3)
    error.replica = replica
    return error


def test_a_request_that_a_full_replica_refuses_goes_to_another_one() -> None:
    handle = Handle(([], no_room("a")), ([text("done", True)], None))
    assert asked(handle, Ask(PIXELS, "?", 4), replicas=2) == [text("done", True)]
    assert handle.full == [[], ["a"]]


@pytest.mark.parametrize(
    ("replicas", "refuse", "calls"),
    [(1, "abc", 1), (2, "abc", 2), (9, "abcd", 3), (9, "aab", 2), (9, [None, "a"], 1)],
)
def test_a_request_that_has_no_room_anywhere_is_refused_soon(
    replicas: int, refuse: Sequence[str | None], calls: int
) -> None:
    handle = Handle(*[([], no_room(one)) for one in refuse])
    with pytest.raises(ApiError, match="no room") as caught:
        asked(handle, Ask(PIXELS, "?", 4), replicas)
    assert (caught.value.status, handle.calls) == (429, calls)


@pytest.mark.parametrize("watched", [False, True])
def test_a_replica_that_never_comes_is_waited_for_only_so_long(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Response):
        def __await__(self) -> Any:
            return asyncio.Event().wait().__await__()

        async def __aiter__(self) -> AsyncGenerator[News]:
            yield text("a")
            await asyncio.Event().wait()

    class NeverHandle(Handle):
        def remote(self, request: Request, full: Sequence[str] = ()) -> Response:
            return Never([], None, self)

    monkeypatch.setattr("uniface_ray.serve.remote_model._GRACE_S", 0.0)
    handle = NeverHandle()
    with pytest.raises(ApiError, match=r"within serve\.timeout_s") as caught:
        asked(handle, Ask(PIXELS, "?", 4, time_limit_s=0.05, watched=watched))
    assert (caught.value.status, caught.value.code, handle.cancelled) == (504, "timeout", 1)


def test_a_refusal_of_the_last_one_that_is_asked_is_told() -> None:
    handle = Handle(*[([], gone())] * 5, ([], no_room("a")))
    with pytest.raises(ApiError, match="no room") as caught:
        asked(handle, Ask(PIXELS, "?", 4), replicas=2)
    assert (caught.value.status, handle.calls) == (429, 6)


def test_a_reader_who_goes_takes_the_request_back() -> None:
    handle = Handle(([text("a"), text("ab"), text("abc", True)], None))

    async def leave() -> None:
        stream = RemoteModel(handle, 8, 3, (9, 2)).ask(Ask(PIXELS, "?", 4, watched=True))  # type: ignore[arg-type]
        await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert handle.cancelled == 1


def test_what_has_no_room_anywhere_is_refused_before_it_is_read() -> None:
    let = asyncio.Event()

    class Slow(Response):
        def __await__(self) -> Any:
            async def wait() -> News:
                await let.wait()
                return image(1, True)

            return wait().__await__()

    class SlowHandle(Handle):
        def remote(self, request: Request, full: Sequence[str] = ()) -> Response:
            return Slow([], None, self)

    async def work() -> None:
        model = RemoteModel(SlowHandle(), 8, 3, (9, 2))  # type: ignore[arg-type]

        async def draw() -> None:
            async for _ in model.ask(Draw("x", 0, 5, 0, 0, "cosine")):
                pass

        model.check_room(draws=True)
        under_way = [asyncio.create_task(draw()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="2 requests are under way") as caught:
            model.check_room(draws=True)
        assert caught.value.status == 429
        model.check_room(draws=False)
        let.set()
        await asyncio.gather(*under_way)
        model.check_room(draws=True)

    asyncio.run(work())
