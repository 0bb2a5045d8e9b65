"""What happens to a run, drawn from a seed: where it reads and writes, which requests fail, who is killed and when."""

import random
from dataclasses import dataclass
from typing import Literal

Action = Literal[
    "kill driver",
    "kill all",
    "kill replica",
    "kill decoder",
    "kill worker",
    "kill server",
    "stop driver",
    "stop replica",
    "stop worker",
    "stop server",
    "stop worker, kill driver",
    "ask to end",
]
SOURCES = ("prompts.parquet", "images", "prompts.jsonl", "images.parquet", "uris.jsonl", "images.tar", "prompts.csv")
_FAULTS = {"slow_down": 0.01, "reset": 0.01, "cut": 0.003, "hang": 0.001}
_WEIGHTS: dict[Action, int] = {
    "kill driver": 4,
    "kill all": 3,
    "kill replica": 3,
    "kill decoder": 2,
    "kill worker": 4,
    "kill server": 2,
    "stop driver": 2,
    "stop replica": 1,
    "stop worker": 3,
    "stop server": 2,
    "stop worker, kill driver": 2,
    "ask to end": 1,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One blow.

    Attributes:
        action: what is done.
        at_chunks: it comes when so many chunks are committed.
        at_s: or, where not None, so many seconds after the driver's start: before there are chunks.
        seconds: that a stopped process stands still, or the server is down.
        pick: 0..1, which of several processes.
    """

    action: Action
    at_chunks: int
    at_s: float | None
    seconds: float
    pick: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of a run.

    Attributes:
        seed: that it was drawn from.
        source: one of `SOURCES`.
        in_bucket: source and sink are in S3, behind a proxy that fails; else on the disk.
        faults: shares of requests, see `fault_proxy`.
        chunk_rows: of the run.
        replicas: likewise.
        events: in the order in which they come.
    """

    seed: int
    source: str
    in_bucket: bool
    faults: dict[str, float]
    chunk_rows: int
    replicas: int
    events: tuple[Event, ...]

    @classmethod
    def drawn(cls, seed: int, rows: int, events: int) -> "Schedule":
        """The schedule of a seed."""
        draw = random.Random(seed)
        in_bucket = seed % 3 != 2
        chunk_rows = draw.choice((25, 40, 60))
        chunks = rows // chunk_rows
        actions = {one: weight for one, weight in _WEIGHTS.items() if in_bucket or "server" not in one}
        drawn = []
        for _ in range(events):
            (action,) = draw.choices(list(actions), list(actions.values()))
            early = draw.uniform(0.5, 12.0) if draw.random() < 0.15 else None
            drawn.append(Event(action, draw.randrange(int(chunks * 0.9)), early, draw.uniform(0.5, 6.0), draw.random()))
        return cls(
            seed,
            SOURCES[seed % len(SOURCES)],
            in_bucket,
            _FAULTS if in_bucket else {},
            chunk_rows,
            2 if seed % 5 == 4 else 1,
            tuple(sorted(drawn, key=lambda event: event.at_chunks)),
        )
