"""What a sink says of its run, from a few small files: needs the storage only, so any machine can ask."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from uniface_ray.batch.manifest import load_progress
from uniface_ray.core.costs import costs_text
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.lease import latest_holder
from uniface_ray.core.progress import clock, rate_text
from uniface_ray.core.run_facts import load_document
from uniface_ray.core.sink_config import StatusConfig
from uniface_ray.core.storage import Folder
from uniface_ray.core.storage_errors import explain


@dataclass(frozen=True, slots=True)
class Status:
    """How a run is.

    Attributes:
        sink: its address.
        state: as in manifest.json, or `stale` where it says it is running, and its process is gone or has been silent
            for too long.
        counts: as in manifest.json.
        rejects_by_kind: rejected, by `error_kind`.
        rows_per_s: of the last minute while it runs, of the whole attempt once it has ended.
        eta_s: seconds to go; None unless it is running.
        replicas: that are up, or were at most.
        replicas_busy: of them; None unless it is running.
        heard_at: ISO 8601.
        heard_s: seconds since then.
        owner: host, pid, start and number of the attempt that is running, or was last; `alive` says whether its process
            is there, where this machine can tell.
        task: what is asked.
        model: its name.
        source: its address.
        costs: see `costs.Costs.document`.
    """

    sink: str
    state: str
    counts: dict[str, int | None]
    rejects_by_kind: dict[str, int]
    rows_per_s: float
    eta_s: float | None
    replicas: int
    replicas_busy: int | None
    heard_at: str
    heard_s: float
    owner: dict[str, Any]
    task: str
    model: str
    source: str
    costs: dict[str, float | None]

    @property
    def exit_code(self) -> int:
        """0: done, or at work. 3: rows are left and nobody works on them; the run's own command resumes it."""
        return 0 if self.state in ("running", "done") else StoppedError.exit_code

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for `view.aligned`."""
        counts, owner = self.counts, self.owner
        of = "" if counts["input"] is None else f" of {counts['input']:,} rows"
        kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in self.rejects_by_kind.items())
        pending = "an unknown number" if counts["pending"] is None else f"{counts['pending']:,}"
        pace = rate_text(self.rows_per_s)
        if self.state == "running":
            pace += f", ETA {clock(self.eta_s)}, replicas {self.replicas_busy}/{self.replicas} busy"
        told = {
            "running": f"attempt {owner['attempt']}",
            "done": f"after {owner['attempt']} {'attempt' if owner['attempt'] == 1 else 'attempts'}",
            "stale": "it says it is running, but "
            + ("its process is gone" if owner["alive"] is False else f"has been silent for {clock(self.heard_s)}"),
        }.get(self.state, f"attempt {owner['attempt']}")
        rows = [
            (self.state, told),
            ("run", f"{self.task} with {self.model}, {self.source} -> {self.sink}"),
            ("rows", f"{counts['ok']:,} ok, {counts['rejected']:,} rejected, {pending} pending{of}"),
            *([("rejected", kinds)] if kinds else []),
            ("pace", pace),
            *([("costs", costs_text(self.costs))] if self.costs else []),
            ("by", f"process {owner['pid']} on {owner['host']}, since {owner['started_at']}"),
            ("heard", f"{clock(self.heard_s)} ago, at {self.heard_at}"),
        ]
        if self.exit_code:
            rows.append(("next", "the run's own command goes on where it stopped"))
        return rows

    def to_json(self) -> str:
        """One object, with the fields of this class."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def read_status(config: StatusConfig) -> Status:
    """Ask a sink how its run is.

    Raises:
        UserError: no run there, no rights, no answer.
    """
    sink = Folder(config.sink.path, config.storage)
    document = open_document(sink)
    try:
        heard, holder = load_progress(sink), latest_holder(sink)
    except OSError as error:
        raise explain(error, "sink.path", sink.uri) from error
    attempt = document["attempts"][-1]
    # progress.json is newer while the run lives; the manifest has the last word once it has ended.
    newer = document["state"] == "running" and heard.get("attempt") == attempt["attempt"]
    latest = heard if newer else document
    signs = [attempt["updated_at"], *([heard["updated_at"]] if newer else []), *([holder.renewed_at] if holder else [])]
    heard_at = max(signs, key=datetime.fromisoformat)
    silence_s = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(heard_at)).total_seconds())
    running = document["state"] == "running"
    there = holder.is_alive() if holder else None
    alive = running and there is not False and silence_s <= config.status.stale_s
    return Status(
        sink=sink.uri,
        state="stale" if running and not alive else document["state"],
        counts=latest["counts"],
        rejects_by_kind=latest["rejects_by_kind"],
        rows_per_s=float(heard["rows_per_s"] if newer else attempt.get("rows_per_s", 0.0)),
        eta_s=heard["eta_s"] if newer and alive else None,
        replicas=heard["replicas"] if newer else attempt.get("replicas", 0),
        replicas_busy=heard["replicas_busy"] if newer and alive else None,
        heard_at=heard_at,
        heard_s=round(silence_s, 1),
        owner={**{name: attempt[name] for name in ("host", "pid", "started_at", "attempt")}, "alive": there},
        task=document["identity"]["task"]["name"],
        model=document["identity"]["model"]["name"],
        source=document["identity"]["source"]["path"],
        costs=latest.get("costs", {}),
    )


def open_document(sink: Folder) -> dict[str, Any]:
    """manifest.json of a sink that must have one.

    Raises:
        UserError: no run there, no rights, no answer.
    """
    sink.check("sink.path")
    try:
        document = load_document(sink)
    except OSError as error:
        raise explain(error, "sink.path", sink.uri) from error
    if not document:
        raise UserError(
            f"sink.path is {sink.uri!r}, which holds no run (no manifest.json there): give the sink.path of a run"
        )
    if document["identity"]["task"] == "train":
        raise UserError(
            f"sink.path is {sink.uri!r}, which holds a training ({document['state']}, step {document['step']:,} of "
            f"{document['steps']:,}), and no rows: see its report.html, or give the sink.path of a run over rows"
        )
    return document
