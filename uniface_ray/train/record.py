"""manifest.json of a training: what it is, so that nothing else is trained on over it, and how far it has come."""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from uniface_ray.core.errors import UserError
from uniface_ray.core.run_facts import MANIFEST, check_same, load_document, now, redacted, versions
from uniface_ray.core.storage import Folder, absolute
from uniface_ray.core.train_config import TrainConfig


def identity_of(config: TrainConfig, weights: str) -> dict[str, Any]:
    """What makes two runs the same run: the model, the rows and their order, what learns. Rates, steps, the number of
    workers and whatever else may change between two attempts.

    Args:
        config: of the run.
        weights: fingerprint of the model.
    """
    stages = config.stages.each()
    return {
        "task": "train",
        "model": {"name": config.model.name, "weights": weights},
        # A run that has held out single rows cannot go on: others would be held out now.
        "data": {**config.data.model_dump(mode="json"), "path": absolute(config.data.path), "held_out_are": "images"},
        "stages": {f"{stage.number}": {"trained": stage.trained, **stage.shares} for stage in stages},
        "lora": config.lora.model_dump(mode="json"),
        "loss.schedule": config.loss.schedule,
        "optimizer.ema": config.optimizer.ema,
        "run.seed": config.run.seed,
    }


@dataclass(slots=True)
class Record:
    """The document, and where it lives.

    Attributes:
        sink: of the run.
        document: as it will be written.
    """

    sink: Folder
    document: dict[str, Any]

    @classmethod
    def open(cls, sink: Folder, config: TrainConfig, weights: str, attempt: int) -> "Record":
        """The sink's manifest with one more attempt, or a new one; nothing is written yet.

        Args:
            sink: of the run.
            config: of the run.
            weights: fingerprint of the model.
            attempt: token of the run's lease.

        Raises:
            UserError: the sink holds another run; the message says what differs.
        """
        old, identity = load_document(sink), identity_of(config, weights)
        if old:
            check_same(old["identity"], identity, sink, set())
        elif any(True for _ in sink.walk("checkpoints")):
            raise UserError(
                f"sink.path is {sink.uri!r}, which holds checkpoints but no {MANIFEST}: its run cannot be told. Put "
                "the manifest back, or use another sink.path"
            )
        attempts = [*old.get("attempts", []), {"attempt": attempt, "host": socket.gethostname(), "pid": os.getpid()}]
        attempts[-1]["started_at"] = now()
        document = {
            "format": 1,
            "state": "running",
            "step": old.get("step", 0),
            "steps": config.stages.each()[-1].end,
            "identity": identity,
            "versions": versions(),
            "created_at": old.get("created_at", now()),
            "attempts": attempts,
            "config": redacted(config),
        }
        return cls(sink, document)

    def write(self, state: str, step: int | None = None) -> None:
        """Replace manifest.json.

        Raises:
            OSError: the sink cannot be written.
        """
        self.document["state"] = state
        self.document["step"] = self.document["step"] if step is None else step
        self.document["attempts"][-1].update(state=state, updated_at=now())
        self.sink.write(MANIFEST, (json.dumps(self.document, indent=1, ensure_ascii=False) + "\n").encode())
