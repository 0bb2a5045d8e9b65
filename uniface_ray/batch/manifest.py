"""manifest.json: what a run is, what became of every row, and what it wrote. It is the sum of the markers."""

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from uniface_ray.batch.layout import CHECKPOINT, PROGRESS, is_marker
from uniface_ray.batch.tally import Tally
from uniface_ray.core.config import JobConfig
from uniface_ray.core.costs import Costs
from uniface_ray.core.errors import UserError
from uniface_ray.core.progress import RunState
from uniface_ray.core.run_facts import MANIFEST, check_same, load_document, now, redacted, versions
from uniface_ray.core.storage import Folder, address_of


def identity_of(config: JobConfig, weights: str, dtype: str) -> dict[str, Any]:
    """What makes two runs the same run; anything else may change between them."""
    return {
        "source": {**config.source.model_dump(mode="json"), "path": address_of(config.source.path)},
        "task": config.task.model_dump(mode="json"),
        "model": {"name": config.model.name, "weights": weights},
        "run.seed": config.run.seed,
        "run.limit": config.run.limit,
        "engine.kind": config.engine.kind,
        "engine.dtype": dtype,
        **({"faces": config.faces.model_dump(mode="json")} if config.faces.enabled else {}),
    }


@dataclass(slots=True)
class Manifest:
    """The document, and where it lives.

    Attributes:
        identity: see `identity_of`.
        config: without secrets.
        attempts: of all runs on this sink, this one last.
        dtype: of the replicas; `auto` keeps to what the sink's rows were made with.
        source: what was listed.
        created_at: ISO 8601, by the first attempt.
        was_done: an earlier attempt finished the run.
    """

    sink: Folder
    identity: dict[str, Any]
    config: dict[str, Any]
    attempts: list[dict[str, Any]]
    dtype: str
    source: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""
    was_done: bool = False

    @classmethod
    def open(cls, sink: Folder, config: JobConfig, weights: str, dtype: str, attempt: int) -> "Manifest":
        """The sink's manifest with one more attempt, or a new one.

        Args:
            sink: of the run.
            config: of the run.
            weights: fingerprint of the model.
            dtype: that `engine.dtype=auto` means here and now.
            attempt: token of the run's lease.

        Raises:
            UserError: the sink holds another run's output; the message says what differs.
        """
        document = load_document(sink)
        has_rows = any(is_marker(entry.name) for entry in sink.list(CHECKPOINT))
        if config.engine.dtype == "auto" and document and has_rows:
            dtype = document["identity"]["engine.dtype"]
        identity = identity_of(config, weights, dtype)
        if document:
            # Until there are rows, another precision (say, of a dry run on another machine) does no harm.
            ignored = set() if has_rows else {"engine.dtype"}
            check_same(document["identity"], identity, sink, ignored)
        elif has_rows:
            raise UserError(
                f"sink.path is {sink.uri!r}, which holds checkpoints but no {MANIFEST}: its run cannot be told. "
                "Put the manifest back, or use another sink.path"
            )
        earlier = _earlier(sink, document)
        attempts = [*earlier, _attempt(attempt)]
        return cls(
            sink,
            identity,
            redacted(config),
            attempts,
            dtype,
            source=document.get("source", {}),
            created_at=document.get("created_at", now()),
            was_done=document.get("state") == "done",
        )

    @property
    def attempt(self) -> int:
        """Number of this attempt: the token of its lease, higher than those before."""
        return int(self.attempts[-1]["attempt"])

    def write(self, state: RunState, tally: Tally, **about_attempt: Any) -> None:
        """Replace manifest.json."""
        self.attempts[-1].update(state=state, updated_at=now(), **about_attempt)
        document = {
            "format": 1,
            "state": state,
            "counts": tally.counts(),
            "rejects_by_kind": dict(tally.rejects_by_kind.most_common()),
            "identity": self.identity,
            "source": self.source,
            "versions": versions(),
            "created_at": self.created_at,
            "attempts": self.attempts,
            "costs": Costs.of(self.attempts, tally.done, self.config["run"]["price_per_replica_hour"]).document(),
            "stage_seconds": {stage: round(seconds, 2) for stage, seconds in tally.seconds.items()},
            "amounts": dict(tally.amounts),
            "config": self.config,
            "files": [asdict(file) for file in sorted(tally.files, key=lambda file: file.name)],
        }
        self.sink.write(MANIFEST, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def _attempt(number: int) -> dict[str, Any]:
    return {"attempt": number, "host": socket.gethostname(), "pid": os.getpid(), "started_at": now()}


def _earlier(sink: Folder, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The attempts of a manifest; one that died tells no end of its own, but what was last heard of it."""
    attempts: list[dict[str, Any]] = document.get("attempts", [])
    if attempts and attempts[-1]["state"] == "running":
        last = attempts[-1]
        last["state"] = "died"
        heard = load_progress(sink)
        if heard.get("attempt") == last["attempt"] and (costs := heard.get("costs")):
            for name in ("replica_hours", "gpu_hours"):
                last[name] = round(costs[name] - sum(attempt.get(name, 0.0) for attempt in attempts[:-1]), 6)
            last["updated_at"] = heard["updated_at"]
    return attempts


def load_progress(sink: Folder) -> dict[str, Any]:
    """progress.json; empty where there is none yet."""
    with suppress(FileNotFoundError, ValueError):
        document: dict[str, Any] = json.loads(sink.read(PROGRESS))
        return document
    return {}
