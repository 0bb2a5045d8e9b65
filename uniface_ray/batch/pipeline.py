"""The stages as a Ray Data pipeline: plan -> read -> decode -> replicas -> commit.

A Ray Data row is a chunk (see `chunk`), so every stage asks for one row at a time. The stages ask for different
fractions of a CPU, which also keeps Ray from fusing them: reads wait for the network while decoding works.

Every process that Ray starts for a run imports this module: what takes seconds to import (torch, transformers) must not
come with it.
"""

import logging
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.isolation import supervised_decoder, supervised_replica
from uniface_ray.batch.job import Job
from uniface_ray.batch.monitor import BEAT_S, Monitor
from uniface_ray.batch.needs import replica_threads
from uniface_ray.batch.plan import PlanIndex
from uniface_ray.batch.ray_metrics import ray_metrics
from uniface_ray.batch.stages import commit_chunk, read_chunk
from uniface_ray.cluster import Cluster
from uniface_ray.core.errors import StoppedError, UniFaceError
from uniface_ray.core.metrics import show_workers

_READ_CPUS = 0.25
_COMMIT_CPUS = 0.2
_MAX_RETRIES = 10  # of a task that reads, decodes or commits, when its process or node is lost
# A replica that is lost is started again for as long as a run lasts: on spot machines that happens all the time. But so
# many losses of one, with no chunk answered in between, end the run instead of looping for ever; and so do replicas
# that cannot start, one after the other, while a node that joins late and is no good may fail alone.
_MOST_LOST = 3
# A chunk that takes along whoever begins it, as one whose rows fill a node's memory may, ends the run too.
_MOST_TRIED = 10
_MOST_FAILED = 2
_ANSWER_S = 300.0


class _ReplicaActor:
    """The Ray shell of a supervised `work.Replica`."""

    def __init__(self, job: Job, monitor: ActorHandle, threads: int | None) -> None:
        self._name = ray.get_runtime_context().get_actor_id()
        self._monitor = monitor
        _answer(monitor.begins.remote(self._name))
        try:
            self._replica = supervised_replica(job, threads)
        except Exception as error:  # Ray tells the driver that an actor died, with a trace for its reason
            _answer(monitor.failed.remote(str(error)))
            raise
        monitor.ready.remote(self._name)
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def __call__(self, batch: pa.Table) -> pa.Table:
        begun, answered = [], []
        for number, cell in _chunks(batch):
            if _answer(self._monitor.begin.remote(self._name, number)):
                begun.append(number)
                answered.append(self._replica.answer(cell))
                self._monitor.answered.remote(self._name, number)
        return _table(begun, answered)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self._monitor.lives.remote(self._name)


def _read(batch: pa.Table, job: Job, plan: PlanIndex, monitor: ActorHandle, pending: np.ndarray) -> pa.Table:
    if _answer(monitor.is_stopped.remote()):
        return _table([], [])
    numbers = [int(pending[index]) for index in batch["id"].to_pylist()]
    return _table(numbers, [read_chunk(job, plan, number) for number in numbers])


def _decode(batch: pa.Table, job: Job) -> pa.Table:
    chunks = list(_chunks(batch))
    decoder = supervised_decoder(job)
    return _table([number for number, _ in chunks], [decoder.answer(cell) for _, cell in chunks])


def _commit(batch: pa.Table, job: Job, plan: PlanIndex, monitor: ActorHandle) -> pa.Table:
    markers = []
    for number, cell in _chunks(batch):
        markers.append(commit_chunk(job, plan, cell, ray_metrics()).to_json())
        _answer(monitor.committed.remote(number))
    return pa.table({"marker": pa.array(markers, pa.string())})


class Pipeline:
    """The run's workers: a context that takes them down again, and Ray with them where the run started it."""

    def __init__(self, job: Job, plan: PlanIndex, cluster: Cluster) -> None:
        self.job = job
        self.plan = plan
        self.cluster = cluster
        self._left = 0
        # Beside the driver: a node that comes and goes must not take it along.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.monitor = ray.remote(num_cpus=0, scheduling_strategy=here)(Monitor).remote()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.cluster.ours:
            # An interrupted pipeline is still in its thread: what it says of its Ray going away is no news.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            ray.shutdown()  # takes the pipeline's actors along; a cluster that was joined stays up
        else:
            ray.kill(self.monitor)

    def stop(self) -> None:
        """Let no more chunks in."""
        _answer(self.monitor.stop.remote())

    def snapshot(self) -> tuple[int, int, int]:
        """(chunks under way, replicas busy, replicas up).

        Raises:
            StoppedError: a replica is lost again and again and no chunk gets done, or always at the same one.
        """
        monitor = self.monitor
        told = _answer([monitor.snapshot.remote(), monitor.lost.remote(), monitor.tried.remote()])
        (under_way, busy, up), lost, (chunk, times) = told
        if lost > _MOST_LOST:
            raise StoppedError(
                f"a replica's process, or its node, was lost {lost} times, and no chunk was answered in between: the "
                "logs of Ray tell why (memory of the node?). The same command goes on where this one stopped"
            )
        if times > _MOST_TRIED:
            raise StoppedError(
                f"chunk {chunk} was begun {times} times, and its replica was lost each time before it answered: the "
                "logs of Ray tell why. Where its memory monitor did it, start the nodes' Ray with "
                "RAY_memory_monitor_refresh_ms=0, so that rows which need too much are split or rejected; or give "
                "nodes more memory, or lower engine.batch_size. The same command goes on where this one stopped"
            )
        show_workers(ray_metrics(), max(0, self._left - under_way), under_way, busy, up)
        return under_way, busy, up

    def run(self, pending: Sequence[int]) -> Iterator[Marker]:
        """Run the chunks `pending` through all stages; gives each marker once it is in the sink, in any order.

        Raises:
            StoppedError: Ray lost what the run needs.
            UniFaceError: no replica can start.
            RayTaskError: what a stage raised.
        """
        _quiet()
        self._left = len(pending)
        job, engine = self.job, self.job.config.engine
        low, high = engine.bounds
        shared: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
        retries = {"max_retries": _MAX_RETRIES}
        counted = {"job": job, "monitor": self.monitor, "plan": self.plan}
        threads = replica_threads(job.config, self.cluster.local)
        dataset = ray.data.range(len(pending), override_num_blocks=len(pending)).map_batches(
            _read,
            fn_kwargs={**counted, "pending": np.asarray(pending)},
            num_cpus=_READ_CPUS,
            **retries,
            **shared,
        )
        if job.source.wanted.image:  # else there is nothing to decode
            decode_cpus = job.config.decode.num_cpus
            dataset = dataset.map_batches(_decode, fn_kwargs={"job": job}, num_cpus=decode_cpus, **retries, **shared)
        dataset = dataset.map_batches(
            _ReplicaActor,
            fn_constructor_kwargs={"job": job, "monitor": self.monitor, "threads": threads},
            compute=ray.data.ActorPoolStrategy(
                min_size=low,
                max_size=high,
                max_concurrent_calls_per_actor=job.calls,
                max_tasks_in_flight_per_actor=2 * job.calls,  # fewer, and a pool does not scale up
                enable_true_multi_threading=True,  # the replica's calls all lead to one engine, in one thread
            ),
            num_cpus=engine.num_cpus,
            num_gpus=job.replica_gpus,
            max_restarts=-1,  # `snapshot` bounds them
            max_task_retries=-1,
            **shared,
        ).map_batches(_commit, fn_kwargs=counted, num_cpus=_COMMIT_CPUS, **retries, **shared)
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for marker in batch["marker"].to_pylist():
                    self._left -= 1
                    yield Marker.from_json(marker)
        except RayTaskError:
            raise
        except RayError as error:
            raise self._told(error) from error

    def _told(self, error: RayError) -> UniFaceError:
        """What Ray says of its own processes and nodes, for people."""
        if (
            isinstance(error, RayActorError)
            and error.actor_init_failed
            and (why := _answer(self.monitor.failure.remote()))
        ):
            return UniFaceError(why)
        return StoppedError(
            f"Ray lost a part of the run ({type(error).__name__}: {str(error).strip().splitlines()[0]}); the same "
            "command goes on where this one stopped"
        )


def _answer(call: ray.ObjectRef | list[ray.ObjectRef]) -> Any:
    """What the monitor says: at once, or a network is cut.

    Raises:
        StoppedError: it says nothing.
    """
    try:
        return ray.get(call, timeout=_ANSWER_S)
    except (GetTimeoutError, RayActorError) as error:
        raise StoppedError(
            "the process that watches over the run, on its driver's node, is gone, or gives no answer for "
            f"{_ANSWER_S:g} s: is the network between the nodes whole? The same command goes on where this one stopped"
        ) from error


def _quiet() -> None:
    """The run has a view of its own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = _MOST_FAILED
    context.raise_original_map_exception = True  # else a stage's own error is lost on its way to the driver
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # map_batches has no named parameter yet for what bounds retries, and warns of passing it on.
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*", category=RayDeprecationWarning)


def _chunks(batch: pa.Table) -> Iterator[tuple[int, pa.Buffer]]:
    """(number, payload) of the chunks in a batch of Ray Data rows; payloads are not copied."""
    return zip(batch["chunk"].to_pylist(), (cell.as_buffer() for cell in batch["payload"]), strict=True)


def _table(numbers: Sequence[int], payloads: Sequence[bytes]) -> pa.Table:
    return pa.table({"chunk": pa.array(numbers, pa.int64()), "payload": pa.array(payloads, pa.large_binary())})
