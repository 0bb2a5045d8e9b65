"""Following the pipeline: markers in, progress out, and a good end when somebody asks for one."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.layout import PROGRESS
from uniface_ray.batch.limits import RejectLimit
from uniface_ray.batch.tally import Tally
from uniface_ray.core.costs import Costs
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.interrupts import Asked
from uniface_ray.core.lease import Lease
from uniface_ray.core.progress import Progress, RateMeter, RunState
from uniface_ray.core.report_data import Point
from uniface_ray.core.run_facts import now
from uniface_ray.core.storage_errors import sink_failed
from uniface_ray.core.view import View

_LOOK_EVERY_S = 0.25
_GRACE_S = 30.0  # for the chunks under way when somebody asks the run to end


class Workers(Protocol):
    """What can be asked of the workers (`monitor.Monitor`, wherever it lives)."""

    def stop(self) -> None: ...

    def snapshot(self) -> tuple[int, int, int]: ...


@dataclass(slots=True)
class Course:
    """How a run goes: what its markers add up to, and its pace.

    Attributes:
        tally: of this run and of earlier ones on the same sink.
        earlier: those, as the manifest holds them.
        replica_gpus: that each replica holds.
        price_per_replica_hour: see `RunConfig`.
        attempt: number of this run in the manifest.
        started_s: of the monotonic clock.
        timeline: rows done over time, for the report.
        most_replicas: that were up at once.
        replica_s: seconds that replicas were up, added up over them.
        limit: of rejects, past which it stops.
        meter: of the pace since the first replica was up: starting Ray and loading weights says nothing of the rows.
    """

    tally: Tally
    earlier: Sequence[Mapping[str, Any]] = ()
    replica_gpus: float = 0.0
    price_per_replica_hour: float | None = None
    attempt: int = 1
    limit: RejectLimit = field(default_factory=RejectLimit)
    started_s: float = field(default_factory=time.monotonic)
    timeline: list[Point] = field(default_factory=list)
    replicas_busy: int = 0
    replicas: int = 0
    most_replicas: int = 0
    replica_s: float = 0.0
    meter: RateMeter = field(init=False)
    _seen_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.meter = RateMeter(self.started_s)
        self._seen_s = self.started_s

    def begin(self) -> None:
        """Rows are about to flow."""
        self.timeline.append(Point(time.monotonic() - self.started_s, self.tally.done))

    def see(self, busy: int, up: int) -> None:
        """What the replicas do now."""
        now_s = time.monotonic()
        if up and not self.most_replicas:
            self.meter = RateMeter(now_s)
        self.replica_s += up * (now_s - self._seen_s)
        self._seen_s = now_s
        self.replicas_busy, self.replicas = busy, up
        self.most_replicas = max(self.most_replicas, up)

    def count(self, marker: Marker) -> None:
        """A chunk is committed.

        Raises:
            StoppedError: it had one reject too many.
        """
        now_s, before, rejects_before = time.monotonic(), self.tally.done, self.tally.rejects_by_kind.copy()
        self.tally.add(marker)
        self.meter.add(now_s, self.tally.done - before)
        self.timeline.append(Point(now_s - self.started_s, self.tally.done))
        # Of a chunk of which rejects were done again, those rows alone.
        self.limit.count(self.tally.done - before, self.tally.rejects_by_kind - rejects_before)

    def spent(self) -> dict[str, float]:
        """Hours of this run's replicas and of their GPUs, for its attempt in the manifest."""
        hours = self.replica_s / 3600
        return {"replica_hours": round(hours, 6), "gpu_hours": round(hours * self.replica_gpus, 6)}

    def costs(self) -> Costs:
        """Of this run and the earlier ones."""
        return Costs.of([*self.earlier, self.spent()], self.tally.done, self.price_per_replica_hour)

    def progress(self, state: RunState) -> Progress:
        """How far the run is."""
        now_s = time.monotonic()
        tally = self.tally
        return Progress(
            input=tally.input,
            ok=tally.ok,
            rejected=tally.rejected,
            pending=tally.pending,
            rows_out=tally.rows_out,
            rows_per_s=self.meter.rate(now_s),
            eta_s=self.meter.eta_s(now_s, tally.pending),
            elapsed_s=now_s - self.started_s,
            replicas_busy=self.replicas_busy,
            replicas=self.replicas,
            state=state,
            updated_at=now(),
            attempt=self.attempt,
            rejects_by_kind=dict(tally.rejects_by_kind.most_common()),
            costs=self.costs().document(),
        )


def follow(
    markers: Iterator[Marker],
    workers: Workers,
    course: Course,
    view: View,
    lease: Lease,
    asked: Asked,
    every_s: float,
) -> None:
    """Count markers until all are there, or, once somebody asked, until those under way are.

    The pipeline runs in a thread of its own, so that the terminal, progress.json and signals never wait for it.

    Args:
        markers: of `Pipeline.run`.
        workers: to stop them, and to see what they do.
        course: is brought up to date.
        view: to show it.
        lease: of the sink, for progress.json; the run ends where it is lost.
        asked: see `interrupts`.
        every_s: seconds between two writes of progress.json.
    """
    course.begin()
    items: queue.Queue[Marker | BaseException | None] = queue.Queue()
    threading.Thread(target=_pump, args=(markers, items), daemon=True).start()
    stop_at_s: float | None = None
    next_look_s = next_write_s = 0.0
    while True:
        try:
            item = items.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            pass
        else:
            if item is None:
                return
            if isinstance(item, BaseException):
                raise _understood(item)
            course.count(item)
        now_s = time.monotonic()
        if now_s < next_look_s:
            continue
        next_look_s = now_s + _LOOK_EVERY_S
        lease.check()
        under_way, busy, up = workers.snapshot()
        course.see(busy, up)
        view.update(course.progress("running"))
        if now_s >= next_write_s:
            next_write_s = now_s + every_s
            try:
                lease.sink.write(PROGRESS, course.progress("running").to_json().encode())
            except OSError as error:
                raise sink_failed(lease.sink.uri, error) from error
        if asked.number is None:
            continue
        if stop_at_s is None:
            stop_at_s = now_s + _GRACE_S
            workers.stop()
            view.note(f"interrupted: finishing {under_way} chunks under way; once more to stop at once")
        elif (not under_way and items.empty()) or now_s > stop_at_s:
            return


def _pump(markers: Iterator[Marker], items: "queue.Queue[Marker | BaseException | None]") -> None:
    try:
        for marker in markers:
            items.put(marker)
        items.put(None)
    except BaseException as error:
        items.put(error)


def _understood(error: BaseException) -> BaseException:
    """The error of ours that Ray wrapped on its way from a worker, where there is one.

    Ray's wrapper takes on the type of what it wraps, and the worker's traceback as its message: the innermost is ours.
    """
    found, inner = error, getattr(error, "cause", None) or error.__cause__
    while inner is not None:
        found = inner if isinstance(inner, UniFaceError) else found
        inner = getattr(inner, "cause", None) or inner.__cause__
    return found
