"""How many replicas a run has: what pays on this machine where the settings leave it open."""

import os
from dataclasses import replace
from math import ceil

from uniface_ray.batch.job import Job
from uniface_ray.batch.needs import OTHER_CPUS
from uniface_ray.cluster import joins_cluster
from uniface_ray.core.memory import available_bytes
from uniface_ray.core.storage import Folder
from uniface_ray.engine.adapters import split
from uniface_ray.engine.device import local_gpus

# A replica loads its model before its first row, and may compile it for minutes: one more pays from so many rows on.
_ROWS, _ROWS_COMPILED = 256, 10_000
# Threads that share a step wait for each other at every one of its operations; replicas do not. One thread each is
# fastest as far as was measured (`python -m benchmarks.caption`); past this many, the threads of each grow instead.
_MOST = 8
# Of a replica on a CPU: libraries; and by the bytes of the weights' files, the weights, keys, values and activations
# (`python -m benchmarks.engine` tells of a hundred million parameters).
_LIBRARIES_BYTES = 2**30
_TIMES_WEIGHTS = 12
_WEIGHTS = ".safetensors"


def most_replicas(job: Job) -> int:
    """Replicas that there may be, however many rows there are."""
    engine = job.config.engine
    if engine.replicas is not None or joins_cluster(job.config.cluster):
        return engine.bounds[1]
    if engine.kind != "uniface":  # a remote server, nothing at all, or a model of which nothing is known
        return 1
    room = _of_gpus(job) if job.device != "cpu" else _of_cores(job)
    given = job.config.cluster.num_cpus
    if given is not None and engine.num_cpus:
        room = min(room, int((given - OTHER_CPUS) / engine.num_cpus))
    return max(1, room)


def with_replicas(job: Job, rows: int, chunks: int) -> Job:
    """`job` with a number of replicas for so much work."""
    engine = job.config.engine
    if engine.replicas is not None or joins_cluster(job.config.cluster):
        return job
    worth = rows // (_ROWS_COMPILED if engine.compile else _ROWS)
    count = _even(job, max(1, min(most_replicas(job), worth, chunks // 2)))
    config = job.config.model_copy(update={"engine": engine.model_copy(update={"replicas": (count, count)})})
    return replace(job, config=config)


def _of_gpus(job: Job) -> int:
    share = job.replica_gpus
    if not share:
        return 1
    return local_gpus() * int(1 / share) if share <= 1 else local_gpus() // int(share)


def _of_cores(job: Job) -> int:
    engine = job.config.engine
    room = min(_MOST, _cores() // max(1, engine.threads or 1, ceil(engine.num_cpus)))
    if (free := available_bytes()) is not None:
        room = min(room, free // 2 // (_TIMES_WEIGHTS * _weights_bytes(job) + _LIBRARIES_BYTES))
    return room


def _even(job: Job, count: int) -> int:
    """No more than leaves no core idle, where cores are shared evenly."""
    if job.device != "cpu" or job.config.engine.threads is not None:
        return count
    return min(count, _cores() // ceil(_cores() / count))


def _cores() -> int:
    return os.cpu_count() or 1


def _weights_bytes(job: Job) -> int:
    model, _ = split(job.config.model)
    files = Folder(model.path, job.config.storage).list()
    return sum(file.size for file in files if file.name.endswith(_WEIGHTS))


__all__ = ["most_replicas", "with_replicas"]
