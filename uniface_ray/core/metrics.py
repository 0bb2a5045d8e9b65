"""What a run tells a monitoring system: the names, and what a finished chunk adds to them.

On Ray the names come out with `ray_` before them, at each node's metrics port (`batch.ray_metrics`). Rates are for the
reader to take: rows/s is rate(ray_uniface_rows_total), the busy share of replicas is
ray_uniface_replicas_busy / ray_uniface_replicas.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """One name.

    Attributes:
        name: as it is asked for; counters end in `_total`.
        kind: a counter only grows, a gauge is what is so now.
        meaning: a line for the reader.
        tags: names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    tags: tuple[str, ...] = ()


METRICS = (
    Metric("uniface_rows_total", "counter", "rows accounted for, ok or by the kind of their error", ("outcome",)),
    Metric("uniface_rows_out_total", "counter", "rows written to the ok files"),
    Metric("uniface_chunks_total", "counter", "chunks committed"),
    Metric("uniface_read_bytes_total", "counter", "bytes of encoded images read from the source"),
    Metric("uniface_images_total", "counter", "images decoded"),
    Metric("uniface_faceless_total", "counter", "photos in which no face was found"),
    Metric("uniface_tokens_total", "counter", "tokens of the answers"),
    Metric("uniface_stage_seconds_total", "counter", "seconds that workers spent in a stage", ("stage",)),
    Metric("uniface_chunks_under_way", "gauge", "chunks begun by a replica and not committed yet"),
    Metric("uniface_chunks_waiting", "gauge", "chunks that no replica has begun"),
    Metric("uniface_replicas", "gauge", "replicas that are up"),
    Metric("uniface_replicas_busy", "gauge", "replicas at work"),
)


class Metrics(Protocol):
    """Where the numbers go."""

    def add(self, name: str, amount: float, tags: Mapping[str, str] | None = None) -> None:
        """A counter grows."""
        ...

    def set(self, name: str, value: float) -> None:
        """A gauge is now this."""
        ...


@dataclass(slots=True)
class Recorder:
    """Keeps the numbers: {(name, label values): number}."""

    values: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add(self, name: str, amount: float, tags: Mapping[str, str] | None = None) -> None:
        self.values[(name, *(tags or {}).values())] += amount  # type: ignore[assignment]

    def set(self, name: str, value: float) -> None:
        self.values[(name,)] = value  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class ChunkNumbers:
    """What one chunk adds.

    Attributes:
        ok: rows that worked.
        rows_out: rows of the ok file.
        rejects_by_kind: the rest.
        seconds: by stage.
        amounts: `read_bytes`, `images`, `tokens`, `faceless`.
    """

    ok: int
    rows_out: int
    rejects_by_kind: Mapping[str, int]
    seconds: Mapping[str, float]
    amounts: Mapping[str, int]


def count_chunk(metrics: Metrics, chunk: ChunkNumbers) -> None:
    """A chunk is committed."""
    metrics.add("uniface_chunks_total", 1)
    metrics.add("uniface_rows_out_total", chunk.rows_out)
    for outcome, rows in {"ok": chunk.ok, **chunk.rejects_by_kind}.items():
        metrics.add("uniface_rows_total", rows, {"outcome": outcome})
    for stage, seconds in chunk.seconds.items():
        metrics.add("uniface_stage_seconds_total", seconds, {"stage": stage})
    for name, amount in chunk.amounts.items():
        metrics.add(f"uniface_{name}_total", amount)


def show_workers(metrics: Metrics, waiting: int, under_way: int, busy: int, up: int) -> None:
    """What goes on now."""
    metrics.set("uniface_chunks_waiting", waiting)
    metrics.set("uniface_chunks_under_way", under_way)
    metrics.set("uniface_replicas", up)
    metrics.set("uniface_replicas_busy", busy)
