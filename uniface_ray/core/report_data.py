"""What report.html shows."""

from dataclasses import dataclass, field
from typing import Any

from uniface_ray.core.progress import RunState


@dataclass(frozen=True, slots=True)
class Sample:
    """One result on the contact sheet.

    Attributes:
        text: what people read first.
        thumbnails: JPEGs: the picture, or the one before and the one after; none keep faces out.
        details: a line about it.
    """

    row_id: int
    uri: str
    text: str
    thumbnails: tuple[bytes, ...] = ()
    details: str = ""


@dataclass(frozen=True, slots=True)
class RejectSample:
    """One reject; `kind`, `message` and `stage` as in its row, `thumbnail` a JPEG where the bytes decode."""

    row_id: int
    uri: str
    kind: str
    message: str
    stage: str
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True)
class Point:
    """Rows committed (all in all) `seconds` after the start."""

    seconds: float
    rows: int


@dataclass(frozen=True, slots=True)
class Report:
    """One run, as its page tells it.

    Attributes:
        started: ISO 8601.
        duration_s: seconds from start to end.
        counts: `input`, `ok`, `rejected`, `pending`, `rows_out`, as in manifest.json; null where not known.
        replicas: that were up at most.
        timeline: in order of time; begins at 0 s with the rows of earlier runs.
        rejects_by_kind: over all rows, `rejects` only some of them.
        stage_seconds: seconds spent in a stage, summed over all its workers.
        answer_words: number of answers by their length in words.
        config: as the manifest holds it, secrets already left out.
        costs: see `costs.Costs.document`; empty where they are not known.
        versions: of the code, the model and the libraries.
        files: name, size in bytes and SHA-256 of each output file.
        notes: what the reader should know besides, one sentence each.
    """

    title: str
    task: str
    model: str
    source: str
    sink: str
    state: RunState
    started: str
    duration_s: float
    counts: dict[str, int | None]
    rows_per_s: float
    replicas: int
    timeline: list[Point]
    rejects_by_kind: dict[str, int]
    stage_seconds: dict[str, float]
    answer_words: dict[int, int]
    samples: list[Sample]
    rejects: list[RejectSample]
    config: dict[str, Any]
    versions: dict[str, str]
    files: list[tuple[str, int, str]]
    notes: list[str]
    costs: dict[str, float | None] = field(default_factory=dict)
