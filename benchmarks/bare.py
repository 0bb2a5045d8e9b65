"""The job's pipeline and task code with nothing that makes it safe: what `safety_cost` compares with.

    python -m benchmarks.bare caption source.path=... sink.path=...

The same plan, stages, chunks and Ray Data operators; but decoding and the model run in Ray's workers themselves, files
are written where they belong and that is all: no child processes, no supervisor, no lease, no markers or checksums, no
monitor, no progress, no manifest.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.batch.chunk import unpack_answers
from uniface_ray.batch.decoding import decode_chunk
from uniface_ray.batch.job import Job
from uniface_ray.batch.layout import OK, REJECTED, part_name
from uniface_ray.batch.needs import local_cpus, replica_threads
from uniface_ray.batch.pipeline import _chunks, _quiet, _table
from uniface_ray.batch.plan import Plan, PlanIndex
from uniface_ray.batch.preflight import check
from uniface_ray.batch.stages import read_chunk
from uniface_ray.batch.work import Replica
from uniface_ray.cluster import connect
from uniface_ray.core.compose import compose
from uniface_ray.core.fenced import Fenced
from uniface_ray.engine.aside import aside
from uniface_ray.engine.build import build_engine
from uniface_ray.tasks.registry import build_task


class _Replica:
    def __init__(self, job: Job, threads: int | None) -> None:
        self._replica = Replica(job, aside(lambda: build_engine(job.config, job.device, job.dtype, threads)))

    def __call__(self, batch: pa.Table) -> pa.Table:
        chunks = list(_chunks(batch))
        return _table([number for number, _ in chunks], [self._replica.answer(cell) for _, cell in chunks])


def _read(batch: pa.Table, job: Job, plan: PlanIndex) -> pa.Table:
    numbers = batch["id"].to_pylist()
    return _table(numbers, [read_chunk(job, plan, number) for number in numbers])


def _decode(batch: pa.Table, job: Job) -> pa.Table:
    chunks = list(_chunks(batch))
    return _table([number for number, _ in chunks], [decode_chunk(job, cell) for _, cell in chunks])


def _write(batch: pa.Table, job: Job) -> pa.Table:
    for number, cell in _chunks(batch):
        answered = unpack_answers(cell, build_task(job.config))
        for status, table in ((OK, answered.ok), (REJECTED, answered.rejected)):
            if table.num_rows:
                path = Path(job.sink.uri) / part_name(status, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table, path, compression="zstd")
    return pa.table({"chunk": batch["chunk"]})


def run(command: str, words: list[str]) -> None:
    """Run a task from a source into a folder."""
    config = compose(command, words)
    checked = check(config)
    cluster = connect(config.cluster, local_cpus(config))
    import ray.data  # after the settings that `connect` makes

    sink = Fenced(config.sink.path, config.storage, 0)
    job = Job(config, checked.source, checked.kept, checked.model.image_size, "cpu", "float32", sink)
    plan = Plan(sink, [])
    plan.extend(job.source, config.run.chunk_rows, config.run.limit)
    _quiet()
    shared: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    low, high = config.engine.bounds
    dataset = (
        ray.data.range(plan.chunks, override_num_blocks=plan.chunks)
        .map_batches(_read, fn_kwargs={"job": job, "plan": plan.index}, num_cpus=0.25, **shared)
        .map_batches(_decode, fn_kwargs={"job": job}, num_cpus=config.decode.num_cpus, **shared)
        .map_batches(
            _Replica,
            fn_constructor_kwargs={"job": job, "threads": replica_threads(job.config, cluster.local)},
            compute=ray.data.ActorPoolStrategy(min_size=low, max_size=high, max_tasks_in_flight_per_actor=2),
            num_cpus=config.engine.num_cpus,
            **shared,
        )
        .map_batches(_write, fn_kwargs={"job": job}, num_cpus=0.2, **shared)
    )
    done = [batch["chunk"].to_numpy() for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow")]
    assert len(np.unique(np.concatenate(done))) == plan.chunks
    ray.shutdown()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
