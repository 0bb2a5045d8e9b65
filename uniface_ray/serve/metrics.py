"""What the server counts, for Prometheus: `/metrics` of this process, and Ray's own exporter inside Ray."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from uniface_ray.engine import protocol
from uniface_ray.serve.access import Visit
from uniface_ray.serve.models import News, Served

# Seconds: from a refused request to a drawing of many steps on a CPU.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Number:
    """One name.

    Attributes:
        name: as it is asked for; counters end in `_total`.
        kind: a counter only grows, a gauge is what is so now, a histogram tells how seconds spread.
        meaning: a line for the reader.
        tags: names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    tags: tuple[str, ...]


NUMBERS = (
    Number("uniface_http_requests_total", "counter", "requests that have ended", ("route", "method", "status")),
    Number("uniface_http_request_seconds", "histogram", "from a request to the end of its response", ("route",)),
    Number("uniface_http_first_byte_seconds", "histogram", "from a request to its response's first byte", ("route",)),
    Number("uniface_http_refused_total", "counter", "requests sent away, by the error's code", ("reason",)),
    Number(
        "uniface_first_token_seconds", "histogram", "from asking a model to a streamed answer's beginning", ("model",)
    ),
    Number("uniface_answer_tokens_total", "counter", "tokens of the answers", ("model",)),
    Number("uniface_images_drawn_total", "counter", "images drawn", ("model",)),
    Number("uniface_model_requests", "gauge", "answers and drawings under way or waiting", ("model", "kind")),
    Number(
        "uniface_model_slots",
        "gauge",
        "of a model in one process: slots in use, and requests waiting",
        ("model", "kind"),
    ),
)


class Exporter(Protocol):
    """Where numbers go besides."""

    def add(self, name: str, amount: float, tags: Mapping[str, str]) -> None:
        """A counter grows."""
        ...

    def set(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        """A gauge is now this."""
        ...

    def observe(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        """A histogram has one more."""
        ...


class Prometheus:
    """The numbers of this process. See `Exporter`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters, self._gauges, self._histograms = {}, {}, {}
        for one in NUMBERS:
            if one.kind == "counter":
                self._counters[one.name] = Counter(one.name, one.meaning, one.tags, registry=self.registry)
            elif one.kind == "gauge":
                self._gauges[one.name] = Gauge(one.name, one.meaning, one.tags, registry=self.registry)
            else:
                made = Histogram(one.name, one.meaning, one.tags, registry=self.registry, buckets=BUCKETS)
                self._histograms[one.name] = made

    def add(self, name: str, amount: float, tags: Mapping[str, str]) -> None:
        self._counters[name].labels(**tags).inc(amount)

    def set(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        self._gauges[name].labels(**tags).set(value)

    def observe(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        self._histograms[name].labels(**tags).observe(seconds)


class Metrics:
    """Counts what goes through the door, and what models say.

    Args:
        others: exporters besides `/metrics`.
    """

    def __init__(self, others: Sequence[Exporter] = ()) -> None:
        self.prometheus = Prometheus()
        self._exporters: list[Exporter] = [self.prometheus, *others]

    def visit(self, visit: Visit) -> None:
        """A request has ended."""
        route = {"route": visit.route}
        self.add("uniface_http_requests_total", 1, {**route, "method": visit.method, "status": str(visit.status)})
        self.observe("uniface_http_request_seconds", visit.seconds, route)
        if visit.first_byte_s is not None:
            self.observe("uniface_http_first_byte_seconds", visit.first_byte_s, route)
        if visit.refused:
            self.add("uniface_http_refused_total", 1, {"reason": visit.refused})

    def add(self, name: str, amount: float, tags: Mapping[str, str]) -> None:
        """See `Exporter`."""
        for one in self._exporters:
            one.add(name, amount, tags)

    def set(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        """See `Exporter`."""
        for one in self._exporters:
            one.set(name, value, tags)

    def observe(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        """See `Exporter`."""
        for one in self._exporters:
            one.observe(name, seconds, tags)


class Counted:
    """A model whose answers are counted. See `models.Served`."""

    def __init__(self, name: str, model: Served, metrics: Metrics) -> None:
        self.image_size = model.image_size
        self._model = model
        self._metrics = metrics
        self._tags = {"model": name}
        self._under_way = {"answers": 0, "drawings": 0}

    async def ask(self, request: protocol.Request) -> AsyncGenerator[News]:
        """See `models.Served`."""
        began_s, first = time.monotonic(), True
        kind = "drawings" if isinstance(request, protocol.Draw) else "answers"
        self._count(kind, 1)
        try:
            async with aclosing(self._model.ask(request)) as stream:
                async for news in stream:
                    if first and kind == "answers" and getattr(request, "watched", False):
                        seconds = time.monotonic() - began_s
                        self._metrics.observe("uniface_first_token_seconds", seconds, self._tags)
                    first = False
                    if news.last:
                        self._tell(news.outcome)
                    yield news
        finally:
            self._count(kind, -1)

    def check_room(self, draws: bool) -> None:
        """See `models.Served`."""
        self._model.check_room(draws)

    async def ready(self) -> bool:
        """See `models.Served`."""
        return await self._model.ready()

    def look(self) -> None:
        """Tell what is so now."""
        for kind, number in getattr(self._model, "load", {}).items():
            self._metrics.set("uniface_model_slots", number, {**self._tags, "kind": kind})

    def _tell(self, outcome: protocol.Outcome) -> None:
        if isinstance(outcome, protocol.Text):
            self._metrics.add("uniface_answer_tokens_total", outcome.tokens, self._tags)
        elif isinstance(outcome, protocol.Drawing):
            self._metrics.add("uniface_images_drawn_total", 1, self._tags)

    def _count(self, kind: str, change: int) -> None:
        self._under_way[kind] += change
        self._metrics.set("uniface_model_requests", self._under_way[kind], {**self._tags, "kind": kind})


def metrics_router(metrics: Metrics, models: Sequence[Counted]) -> APIRouter:
    """`/metrics`."""
    router = APIRouter()

    @router.get("/metrics", response_class=Response)
    async def show() -> Response:
        for model in models:
            model.look()
        return Response(generate_latest(metrics.prometheus.registry), media_type=CONTENT_TYPE_LATEST)

    return router


__all__ = ["BUCKETS", "NUMBERS", "Counted", "Exporter", "Metrics", "metrics_router"]
