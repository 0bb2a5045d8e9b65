"""What every worker of a run knows."""

import math
from dataclasses import dataclass

import pyarrow as pa

from uniface_ray.batch.replay import Replay
from uniface_ray.core.config import JobConfig
from uniface_ray.core.fenced import Fenced
from uniface_ray.data.slices import Source

_MOST_CALLS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """The composed config and what the driver decided from it. Small: it travels with every Ray task.

    Attributes:
        config: of the run.
        source: opened by the driver.
        kept: types of `source.keep_columns`.
        image_size: side in pixels of what the model takes.
        device: torch device of the replicas.
        dtype: of the replicas.
        sink: to write through, with the token of this run's lease.
        replay: only these rejected rows are done, again; None for whole chunks.
        chunk_rows: of the plan, on average, which may be fewer than `run.chunk_rows`; None before there is a plan.
    """

    config: JobConfig
    source: Source
    kept: pa.Schema
    image_size: int
    device: str
    dtype: str
    sink: Fenced
    replay: Replay | None = None
    chunk_rows: int | None = None

    @property
    def replica_gpus(self) -> float:
        """GPUs of one replica: as configured, else one where it runs on a GPU."""
        if self.config.engine.num_gpus is not None:
            return self.config.engine.num_gpus
        return 0.0 if self.device == "cpu" else 1.0

    @property
    def calls(self) -> int:
        """Chunks that a replica works on at a time: while one ends, row by row, the others fill its slots."""
        engine = self.config.engine
        slots = self.config.remote.concurrency if engine.kind == "openai" else engine.batch_size
        return calls_for(slots, self.chunk_rows or self.config.run.chunk_rows)


def calls_for(slots: int, chunk_rows: int) -> int:
    """Chunks at a time that keep so many slots full: twice as many rows as slots, without the chunk that ends."""
    return min(_MOST_CALLS, 1 + math.ceil(2 * slots / chunk_rows))
