"""How far a run is: the numbers of progress.json and of the terminal, and the rate behind them."""

import json
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import linear_regression
from typing import Any, Literal

_FEWEST = 4  # commits that tell a pace, however slow it is

RunState = Literal["running", "done", "stopped", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a run; input = ok + rejected + pending.

    Attributes:
        input: rows of the source; null until they are listed.
        ok: rows that worked, of this run and of earlier ones on the same sink.
        rejected: rows with an error, likewise.
        pending: rows still to do; null until they are listed.
        rows_out: rows written to the ok files (one input row may give several).
        rows_per_s: of this run, over the last minute or so.
        eta_s: seconds to go at that rate; null while nobody can say.
        elapsed_s: seconds since this run started.
        replicas_busy: of `replicas` that are up.
        updated_at: ISO 8601 with a time zone.
        attempt: number of this run among those on the same sink.
        rejects_by_kind: rejected, by `error_kind`.
        costs: see `costs.Costs.document`.
    """

    input: int | None
    ok: int
    rejected: int
    pending: int | None
    rows_out: int
    rows_per_s: float
    eta_s: float | None
    elapsed_s: float
    replicas_busy: int
    replicas: int
    state: RunState
    updated_at: str
    attempt: int = 1
    rejects_by_kind: dict[str, int] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Rows that are accounted for."""
        return self.ok + self.rejected

    def counts(self) -> dict[str, int | None]:
        """The `counts` of manifest.json."""
        return {
            "input": self.input,
            "ok": self.ok,
            "rejected": self.rejected,
            "pending": self.pending,
            "rows_out": self.rows_out,
        }

    def to_json(self) -> str:
        """The text of progress.json."""
        content = {
            "state": self.state,
            "attempt": self.attempt,
            "counts": self.counts(),
            "rejects_by_kind": self.rejects_by_kind,
            "rows_per_s": round(self.rows_per_s, 2),
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "replicas": self.replicas,
            "replicas_busy": self.replicas_busy,
            "costs": self.costs,
            "updated_at": self.updated_at,
        }
        return json.dumps(content, indent=2) + "\n"


class RateMeter:
    """Rows per second from commits that come in lumps. Times are of a monotonic clock, in seconds.

    Only rows done in this run are added, so a resumed run's rate and ETA are right from its first commit on.

    Rows arrive a chunk at a time, often several chunks at once after a silence. Counting them in a window
    would jump with every lump; the slope of a line through the last minute's commits does not.
    """

    def __init__(self, started_s: float, window_s: float = 60.0) -> None:
        self._started_s = started_s
        self._window_s = window_s
        self._silence_s = 0.0  # before the first commit: start-up and one chunk
        self._rows = 0
        self._commits: deque[tuple[float, float]] = deque()  # (time, rows done when half of it was in)

    def add(self, now_s: float, rows: int) -> None:
        """`rows` more rows are done."""
        if rows <= 0:
            return
        if self._rows == 0:
            self._silence_s = now_s - self._started_s
            # Replicas start together and commit together: a window shorter than two rounds may see but one.
            self._window_s = max(self._window_s, 2 * self._silence_s)
        self._commits.append((now_s, self._rows + rows / 2))
        self._rows += rows
        self._forget(now_s)

    def overall(self, now_s: float) -> float:
        """Rows per second since the start, start-up included."""
        elapsed_s = now_s - self._started_s
        return self._rows / elapsed_s if elapsed_s > 0 else 0.0

    def rate(self, now_s: float) -> float:
        """Rows per second over the last minute, without start-up; sinks towards 0 while nothing comes."""
        self._forget(now_s)
        if len(self._commits) < 2:
            return self.overall(now_s)
        times = [time for time, _ in self._commits]
        span_s = times[-1] - times[0]
        # Two replicas' first chunks, a moment apart, say nothing about the pace; a second round does.
        young = times[0] == self._started_s + self._silence_s and span_s < self._silence_s
        if span_s <= 0 or young:
            return self.overall(now_s)
        slope = linear_regression(times, [rows for _, rows in self._commits]).slope
        overdue_s = max(0.0, now_s - times[-1] - max(b - a for a, b in pairwise(times)))
        return max(0.0, slope) * span_s / (span_s + overdue_s)

    def eta_s(self, now_s: float, pending: int | None) -> float | None:
        """Seconds until `pending` rows are done; None where there is no rate to tell from."""
        if pending is None:
            return None
        rate = self.rate(now_s)
        return pending / rate if rate > 0 else None if pending else 0.0

    def _forget(self, now_s: float) -> None:
        while len(self._commits) > _FEWEST and self._commits[0][0] < now_s - self._window_s:
            self._commits.popleft()


def clock(seconds: float | None) -> str:
    """A duration for people: `0:07`, `12:03`, `3:00:15`, `2d 4:00:00`; a dash for None."""
    if seconds is None:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def rate_text(rows_per_s: float) -> str:
    """`64.2 rows/s`, `1,280 rows/s`, `0.31 rows/s`; by the minute where a row takes longer than 10 s."""
    if 0 < rows_per_s < 0.1:
        return f"{rows_per_s * 60:.1f} rows/min"
    digits = 0 if rows_per_s >= 100 or rows_per_s == 0 else 1 if rows_per_s >= 1 else 2
    return f"{rows_per_s:,.{digits}f} rows/s"
