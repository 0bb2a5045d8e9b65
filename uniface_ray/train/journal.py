"""What a training tells: a line of numbers every so many steps, in metrics.jsonl and for TensorBoard."""

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.page import render_training
from uniface_ray.train.validation import Example

METRICS = "metrics.jsonl"
REPORT = "report.html"
_BOARD = "tensorboard"
_EVERY_S = 10.0


class Journal:
    """The records of a run, those of its earlier attempts too, and the page about them; the first worker's.

    Args:
        sink: of the run.
        config: of the run.
        step: where the run goes on: later records are of steps that will be done again.
    """

    def __init__(self, sink: Folder, config: TrainConfig, step: int) -> None:
        self._sink, self._config = sink, config
        self.records: list[dict[str, Any]] = [one for one in read_records(sink) if one["step"] <= step]
        self._board = _Board(sink, step)
        self._flushed_s = time.monotonic()

    def add(self, record: dict[str, Any]) -> None:
        """One more record: `step`, and numbers by name."""
        self.records.append(record)
        self._board.add(record)
        if time.monotonic() - self._flushed_s > _EVERY_S:
            self.flush()

    def show(self, examples: list[Example]) -> None:
        """What the last look at held-out rows has seen; writes report.html.

        Raises:
            OSError: the sink cannot be written.
        """
        self._sink.write(REPORT, render_training(self._config, self.records, examples).encode())

    def flush(self) -> None:
        """Put all records into the sink.

        Raises:
            OSError: the sink cannot be written.
        """
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        self._sink.write(METRICS, lines.encode())
        self._board.flush()
        self._flushed_s = time.monotonic()


def read_records(sink: Folder) -> list[dict[str, Any]]:
    """The records in a sink; none where there are none."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in sink.read(METRICS).decode().splitlines()]
    return []


class _Board:
    """An event file for TensorBoard, where tensorboardX is there to write it."""

    def __init__(self, sink: Folder, step: int) -> None:
        self._sink = sink
        self._writer: Any = None
        with suppress(ImportError):
            from tensorboardX import SummaryWriter

            self._local = tempfile.TemporaryDirectory(prefix="uniface-board-")
            self._writer = SummaryWriter(self._local.name, purge_step=step + 1)

    def add(self, record: dict[str, Any]) -> None:
        if self._writer is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, record["step"])

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()
            for file in Path(self._local.name).iterdir():
                self._sink.write(f"{_BOARD}/{file.name}", file.read_bytes())
