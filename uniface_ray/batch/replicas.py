"""How many replicas pay on this machine, where the settings leave it open."""

import os
from dataclasses import replace

from uniface_ray.batch.job import Job
from uniface_ray.batch.needs import OTHER_CPUS
from uniface_ray.core.memory import available_bytes
from uniface_ray.core.storage import Folder
from uniface_ray.engine.adapters import split
from uniface_ray.engine.device import local_gpus

# A replica loads its model before its first row: for fewer rows one more does not pay.
_ROWS = 256
# Threads that share a step wait for each other at every one of its operations; replicas do not. One thread each is
# fastest as far as was measured (`python -m benchmarks.caption`); past this many, the threads of each grow instead.
_MOST = 8
_LIBRARIES_BYTES = 2**30
_WEIGHTS = ".safetensors"


def with_replicas(job: Job, rows: int) -> Job:
    """`job` with a number of replicas for so many rows, on a Ray of this machine alone."""
    engine = job.config.engine
    if engine.replicas is not None:
        return job
    count = max(1, min(_room(job), rows // _ROWS))
    config = job.config.model_copy(update={"engine": engine.model_copy(update={"replicas": (count, count)})})
    return replace(job, config=config)


def _room(job: Job) -> int:
    """What devices, memory and `cluster.num_cpus` allow."""
    engine, given = job.config.engine, job.config.cluster.num_cpus
    if engine.kind != "uniface":  # a remote server, nothing at all, or a model of which nothing is known
        return 1
    room = min(_MOST, os.cpu_count() or 1)
    if job.device != "cpu":
        room = int(local_gpus() / job.replica_gpus) if job.replica_gpus else 1
    elif (free := available_bytes()) is not None:
        room = min(room, free // 2 // (_weights_bytes(job) + _LIBRARIES_BYTES))
    if given is not None and engine.num_cpus:
        room = min(room, int((given - OTHER_CPUS) / engine.num_cpus))
    return room


def _weights_bytes(job: Job) -> int:
    """Of a model in memory: its files may hold numbers of half the size."""
    model, _ = split(job.config.model)
    files = Folder(model.path, job.config.storage).list()
    return 2 * sum(file.size for file in files if file.name.endswith(_WEIGHTS))


__all__ = ["with_replicas"]
