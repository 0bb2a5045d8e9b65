"""One run through its schedule: started, struck, started again, until it ends well; then checked."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checks, sources
from tests.chaos.processes import Processes
from tests.chaos.schedule import Event, Schedule
from tests.fault_proxy import FaultProxy
from tests.s3_server import S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder

_MOST_ATTEMPTS = 25
_LOOK_EVERY_S = 0.1
# -15: asked to end before it listens, while it imports; a shell shows it as 143 too.
_EXIT_CODES = (0, 1, 3, 130, 143, -9, -15)


class ChaosError(Exception):
    """The run did something that it must not."""


@dataclass(slots=True)
class Outcome:
    """What became of a seed's run.

    Attributes:
        exit_codes: of its attempts.
        strikes: what was done to it.
        faults: that the proxy made.
        seconds: in all.
        counted: see `checks`.
        verify: exit code of `uniface verify`.
    """

    schedule: Schedule
    exit_codes: list[int] = field(default_factory=list)
    strikes: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    counted: checks.Counted | None = None
    verify: int | None = None

    @property
    def is_whole(self) -> bool:
        """Each row is there, once."""
        one = self.counted
        return one is not None and self.verify == 0 and not (one.lost or one.doubled or one.strange)

    def document(self) -> dict[str, Any]:
        """For the result file."""
        schedule = self.schedule
        return {
            "seed": schedule.seed,
            "source": schedule.source,
            "place": "bucket" if schedule.in_bucket else "disk",
            "chunk_rows": schedule.chunk_rows,
            "replicas": schedule.replicas,
            "attempts": len(self.exit_codes),
            "exit_codes": self.exit_codes,
            "strikes": dict(Counter(self.strikes)),
            "faults": {name: times for name, times in self.faults.items() if name != "passed"},
            "seconds": round(self.seconds, 1),
            "verify": self.verify,
            **(asdict(self.counted) if self.counted else {}),
        }


class Arena:
    """Where runs are struck: sources are written once, and every seed has a sink of its own.

    Args:
        folder: for everything; a short path, for Ray's sockets.
        server: a real S3 server; None for schedules on the disk.
        rows: of every source.
        tell: progress, line by line.
        patience_s: a run without a new chunk for so long hangs.
    """

    def __init__(
        self, folder: Path, server: S3Server | None, rows: int, tell: Callable[[str], None], patience_s: float = 900.0
    ) -> None:
        self._folder = folder
        self._server = server
        self._rows = rows
        self._tell = tell
        self._patience_s = patience_s
        self._bucket = server.bucket() if server else ""
        self._written: dict[str, Folder] = {}

    def run(self, schedule: Schedule) -> Outcome:
        """Strike a run until its schedule is done, let it end, and check.

        Raises:
            ChaosError: it hangs, ends with a code that tells no reason, or does not end well in many attempts.
        """
        began_s, outcome = time.monotonic(), Outcome(schedule)
        source, sink = self._source(schedule), self._place(schedule, f"out-{schedule.seed}")
        log = self._folder / f"seed-{schedule.seed}.log"
        events = list(schedule.events)
        with ExitStack() as stack:
            endpoint = None
            if self._server and schedule.in_bucket:
                faulty = FaultProxy(self._server.endpoint, schedule.faults, schedule.seed, hang_s=4.0)
                proxy = stack.enter_context(faulty)
                outcome.faults, endpoint = proxy.seen, proxy.endpoint
            words = [*sources.words(schedule.source, source), *self._words(schedule, sink, endpoint)]
            while 0 not in outcome.exit_codes:
                if len(outcome.exit_codes) == _MOST_ATTEMPTS:
                    raise ChaosError(f"seed {schedule.seed}: {outcome.exit_codes}, see {log}")
                outcome.exit_codes.append(self._attempt(words, sink, events, outcome, log))
                code = outcome.exit_codes[-1]
                if code > 0:
                    self._tell(f"  seed {schedule.seed}: exit code {code}: {_last_line(log)}")
                # A server that is down just when a run begins is taken for a wrong address, in seconds.
                if code not in _EXIT_CODES and not (code == 2 and "does not answer" in log.read_text()[-2000:]):
                    raise ChaosError(f"seed {schedule.seed}: exit code {code}, see {log}")
        outcome.counted = checks.count(sink, sources.ids(schedule.source, self._rows))
        reach = [f"sink.path={sink.uri}", *self._reach(self._server.endpoint if self._server else None)]
        outcome.verify, answer = checks.verify(reach, self._environment())
        with log.open("a") as file:
            file.write(answer)
        outcome.seconds = time.monotonic() - began_s
        return outcome

    def _attempt(self, words: list[str], sink: Folder, events: list[Event], outcome: Outcome, log: Path) -> int:
        """The exit code of one driver; strikes it by the events that are due, and takes these out."""

        def tell(action: str) -> None:
            outcome.strikes.append(action)
            self._tell(f"  seed {outcome.schedule.seed}: {action} at {done} chunks")

        done, began_s = _chunks(sink, 0), time.monotonic()
        moved_s = began_s
        with log.open("ab") as file:
            driver = subprocess.Popen(
                [sys.executable, "-m", "uniface_ray.cli", *words],
                env=self._environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        waiter = threading.Thread(target=driver.wait)
        waiter.start()
        server = self._server if outcome.schedule.in_bucket else None
        processes = Processes(driver.pid, server, tell)
        try:
            while waiter.is_alive():
                waiter.join(_LOOK_EVERY_S)
                processes.look()
                if (now := _chunks(sink, done)) != done:
                    done, moved_s = now, time.monotonic()
                if time.monotonic() - moved_s > self._patience_s:
                    raise ChaosError(f"seed {outcome.schedule.seed}: no chunk for {self._patience_s:g} s, see {log}")
                for event in events[:]:
                    since_s = time.monotonic() - began_s
                    is_due = done >= event.at_chunks if event.at_s is None else since_s >= event.at_s
                    if is_due and waiter.is_alive() and processes.strike(event):
                        events.remove(event)
                        break  # one at a time: the next finds what this one has left
        finally:
            time.sleep(0.5)  # who is asked to end with the driver, does
            processes.end()
            waiter.join()
        return driver.returncode

    def _source(self, schedule: Schedule) -> Folder:
        name = f"{schedule.source.replace('.', '-')}-{schedule.in_bucket}"
        if name not in self._written:
            folder = self._place(schedule, name)
            sources.write(folder, schedule.source, self._rows)
            self._written[name] = folder
        return self._written[name]

    def _place(self, schedule: Schedule, name: str) -> Folder:
        """To be looked at past the proxy."""
        if self._server and schedule.in_bucket:
            return Folder(f"s3://{self._bucket}/{name}", self._server.storage)
        return Folder(str(self._folder / name), StorageConfig())

    def _words(self, schedule: Schedule, sink: Folder, endpoint: str | None) -> list[str]:
        return [
            f"sink.path={sink.uri}",
            "engine.kind=null",
            f"engine.replicas={schedule.replicas}",
            f"run.chunk_rows={schedule.chunk_rows}",
            "run.progress_every_s=1",
            "report.images=false",
            *self._reach(endpoint),
        ]

    def _reach(self, endpoint: str | None) -> list[str]:
        return [f"storage.endpoint={endpoint}", "storage.request_timeout_s=3"] if endpoint else []

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": S3Server.access_key,
            "AWS_SECRET_ACCESS_KEY": S3Server.secret_key,
            "RAY_TMPDIR": str(self._folder / "ray"),
            # Ray's workers would wait for every other process of the machine.
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }


def _last_line(log: Path) -> str:
    return next((line for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "")


def _chunks(sink: Folder, before: int) -> int:
    """Markers in the sink; `before` where the server is down."""
    try:
        quick = sink.storage.model_copy(update={"attempts": 1, "request_timeout_s": 1.0, "connect_timeout_s": 1.0})
        return len(Folder(sink.uri, quick).list("checkpoint"))
    except OSError:
        return before
