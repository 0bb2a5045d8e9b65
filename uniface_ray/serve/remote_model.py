"""A model in replicas elsewhere; a request whose replica is lost is asked again."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from uniface_ray.core.records import RejectKind
from uniface_ray.engine.protocol import Ask, Draw, Request
from uniface_ray.serve.errors import ApiError, busy
from uniface_ray.serve.loop import REPLICA_DIED, REPLICA_GONE
from uniface_ray.serve.models import News
from uniface_ray.serve.routing import FULL

_LOG = logging.getLogger(__name__)
_TRIES = 6
_DEATHS = 2  # of replicas that had the request: it may be what they died of
_WAIT_S = 0.2  # before the second try; each further one waits twice as long
_GRACE_S = 1.0  # beyond the request's own limit, which a replica keeps by itself once it has the request
_READY_S = 5.0
_ELSEWHERE = 2  # other replicas that are asked when one has no room


class RemoteModel:
    """See `models.Served`. A request has its seed before it is sent, so asked again it comes to the same result."""

    def __init__(
        self, handle: DeploymentHandle, image_size: int, max_waiting: int, room: tuple[int, int], replicas: int = 1
    ) -> None:
        """Nothing is sent yet.

        Args:
            handle: to the replicas.
            image_size: of the model.
            max_waiting: requests that may wait at this side for a replica.
            room: for answers and for drawings in all replicas, as many as there may be.
            replicas: as many as there may be.
        """
        self.image_size = image_size
        self._handle = handle
        self._max_waiting = max_waiting
        self._elsewhere = min(_ELSEWHERE, replicas - 1)
        self._room = {False: room[0], True: room[1]}
        self._under_way = {False: 0, True: 0}

    async def ask(self, request: Request) -> AsyncGenerator[News]:
        """See `models.Served`."""
        draws = isinstance(request, Draw)
        now_s, limit_s = asyncio.get_running_loop().time(), request.time_limit_s
        deadline = None if limit_s is None else now_s + limit_s + _GRACE_S
        self._under_way[draws] += 1
        try:
            async with aclosing(self._ask_until_answered(request)) as stream:
                while news := await _next(stream, deadline):
                    yield news
        finally:
            self._under_way[draws] -= 1

    def check_room(self, draws: bool) -> None:
        """See `models.Served`. Of this door's requests only: the replicas refuse what is too much of all of them."""
        if self._under_way[draws] >= self._room[draws]:
            what = f"{self._room[draws]} requests are under way or waiting, as many as are allowed; try again later"
            raise busy(what, 1.0)

    async def _ask_until_answered(self, request: Request) -> AsyncGenerator[News]:
        told = 0  # unfinished images that the reader has; an answer that begins anew is recognised by its words
        deaths = 0
        full: list[str] = []  # replicas without room
        for attempt in range(1, _TRIES + 1):
            seen = 0
            try:
                async with aclosing(self._ask(request, full)) as stream:
                    async for news in stream:
                        seen += 1
                        if news.last or not isinstance(request, Draw) or seen > told:
                            told = max(told, seen)
                            yield news
                return
            except Exception as error:
                replica = _without_room(error)
                elsewhere = attempt < _TRIES and len(full) < self._elsewhere
                if replica and replica not in full and elsewhere:
                    full.append(replica)
                    continue
                reason = _why_again(error)
                if reason is None:
                    raise self._told(error) from error
                deaths += _died(error)
                if deaths == _DEATHS:
                    what = f"{deaths} replicas were lost while they worked at this request; it is not tried again"
                    # OpenAI's clients would ask again by themselves.
                    raise ApiError(500, what, code=REPLICA_DIED, headers={"x-should-retry": "false"}) from error
                if attempt == _TRIES:
                    what = "the replicas of this request were lost, again and again; try later"
                    raise ApiError(503, what, code=REPLICA_GONE, headers={"Retry-After": "5"}) from error
                _LOG.warning("asking again (%d of %d): %s", attempt + 1, _TRIES, reason)
            await asyncio.sleep(_WAIT_S * 2 ** (attempt - 1))

    async def ready(self) -> bool:
        """See `models.Served`."""
        response = self._handle.ready.remote()
        try:
            return bool(await asyncio.wait_for(response, _READY_S))
        except Exception:
            return False

    async def _ask(self, request: Request, full: list[str]) -> AsyncGenerator[News]:
        elsewhere = {FULL: full} if full else {}
        watched = request.watched if isinstance(request, Ask) else isinstance(request, Draw) and request.partials > 0
        if not watched:
            response = self._handle.answer.remote(request, **elsewhere)
            done = False
            try:
                news = await response
                done = True
            finally:
                if not done:
                    response.cancel()
            yield news
            return
        stream = self._handle.options(stream=True).watch.remote(request, **elsewhere)
        ended = False
        try:
            async for news in stream:
                ended = news.last
                yield news
        finally:
            if not ended:
                stream.cancel()

    def _told(self, error: Exception) -> Exception:
        """What the client is told of an error."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, BackPressureError):
            return busy(f"{self._max_waiting} requests wait for a replica already; try again later", 1.0)
        if isinstance(cause, RayServeException):
            return ApiError(503, "the model has no replica that works; try later", code="model_unavailable")
        return cause if isinstance(cause, Exception) else error


async def _next(stream: AsyncGenerator[News], deadline: float | None) -> News | None:
    """The next news, None at the end; around each, because the next one may be asked for by another task.

    Raises:
        ApiError: 504, the deadline, in the event loop's seconds, has passed.
    """
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await anext(stream, None)
    except TimeoutError as error:
        if not limit.expired():
            raise
        what = "no replica has answered within serve.timeout_s, the waiting included; try later"
        raise ApiError(504, what, code=str(RejectKind.TIMEOUT)) from error


def _why_again(error: Exception) -> str | None:
    """Why another replica may answer what one has not; None where it may not."""
    if isinstance(error, RayActorError | ReplicaUnavailableError):
        return f"the replica was lost ({type(error).__name__})"
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ApiError) and cause.code in (REPLICA_DIED, REPLICA_GONE):
        return cause.message
    return None


def _without_room(error: Exception) -> str | None:
    """The replica that has no room for a request; None where the error is another one."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause.replica if isinstance(cause, ApiError) and cause.status == 429 else None


def _died(error: Exception) -> bool:
    """Whether the replica had the request, and did not only refuse it."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(error, RayActorError) or (isinstance(cause, ApiError) and cause.code == REPLICA_DIED)


__all__ = ["RemoteModel"]
