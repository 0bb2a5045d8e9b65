"""What a run needs of Ray: logical CPUs, threads of each replica, and to be left alone about memory."""

import os
from math import ceil

from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError

_LEAST_CPUS = 4
# What reads, decoding and commits need beside the replicas: with less, a run would wait for ever.
OTHER_CPUS = 2
_MEMORY_SETTINGS = {"RAY_memory_monitor_refresh_ms": "0", "RAY_task_oom_retries": "2"}


def needed_cpus(config: JobConfig) -> int:
    """Logical CPUs without which the run would stand still."""
    return ceil(config.engine.bounds[0] * config.engine.num_cpus) + OTHER_CPUS


def local_cpus(config: JobConfig) -> int:
    """Logical CPUs of a Ray on this machine.

    Raises:
        UserError: `cluster.num_cpus` leaves no room beside the replicas.
    """
    given, needed = config.cluster.num_cpus, needed_cpus(config)
    if given is None:
        most = ceil(config.engine.bounds[1] * config.engine.num_cpus) + OTHER_CPUS
        return max(_LEAST_CPUS, os.cpu_count() or 1, most)
    if given < needed:
        raise UserError(
            f"cluster.num_cpus is {given}, but {config.engine.bounds[0]} replicas of engine.num_cpus="
            f"{config.engine.num_cpus:g} and the stages beside them need {needed}: raise it, or lower the others"
        )
    return given


def replica_threads(config: JobConfig, local: bool) -> int | None:
    """Torch threads of one replica: as configured; on this machine alone its cores shared; else its share of a node."""
    engine = config.engine
    if engine.threads is not None:
        return engine.threads
    return max(1, (os.cpu_count() or 1) // engine.bounds[1]) if local else max(1, int(engine.num_cpus))


def leave_memory_to_supervisors() -> None:
    """Settings of a Ray that this process is about to start.

    What may run out of memory runs in child processes, whose end the run survives, and whose rows it splits or rejects.
    Ray's own monitor would kill the workers above them first, and repeat their tasks for ever.
    """
    for name, value in _MEMORY_SETTINGS.items():
        os.environ.setdefault(name, value)
