"""The workers of Ray Train, as the driver sees them."""

import threading
import time
from collections.abc import Callable
from math import ceil
from typing import Any

import ray
from pyarrow import fs
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.interrupts import Asked, InterruptedRunError
from uniface_ray.core.s3 import open_bucket
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.train.hooks import Outcome
from uniface_ray.train.worker import Post, Work, in_group

_LOOK_EVERY_S = 0.5


def train_on_ray(
    config: TrainConfig, device: str, dtype: str, sink: Fenced, asked: Asked, tell: Callable[[dict[str, Any]], None]
) -> Outcome:
    """Train with the workers of Ray Train, on a Ray that this process is connected to.

    Args:
        config: of the run.
        device: `cpu` or `cuda`.
        dtype: of the computation.
        sink: of the run.
        asked: whether to stop.
        tell: hears each record of the journal.

    Raises:
        InterruptedRunError: a signal, while no worker was up to save anything.
        UniFaceError: what went wrong in a worker, or more workers died than `parallel.max_failures` allows.
    """
    post = open_post()
    trainer = TorchTrainer(
        in_group,
        train_loop_config={"given": Work(config, dtype, sink, post)},
        torch_config=TorchConfig(timeout_s=600),
        scaling_config=_scaling(config, device),
        run_config=_run(config, sink),
    )
    fit = _Fit(trainer)
    told = False
    while not fit.wait(_LOOK_EVERY_S):
        _pass_on(post, tell)
        if asked.number is not None and not told:
            told = True
            if not ray.get(post.stop.remote()):
                raise InterruptedRunError(asked.number)
    _pass_on(post, tell)
    error = ray.get(post.error.remote())
    if error is not None:
        raise error
    return fit.outcome()


def open_post() -> Any:
    """Beside the driver: a node that comes and goes must not take it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Post).remote()


class _Fit:
    """`trainer.fit` in a thread: signals belong to the main one."""

    def __init__(self, trainer: TorchTrainer) -> None:
        self._trainer = trainer
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def outcome(self) -> Outcome:
        """How the training ended.

        Raises:
            UniFaceError: workers died too often.
        """
        if isinstance(self._error, TrainingFailedError):
            raise UniFaceError(
                f"the workers failed more often than parallel.max_failures allows, the last time: {self._error}. The "
                "same command goes on from the last checkpoint"
            ) from self._error
        if self._error:
            raise self._error
        found: Outcome = self._result.return_value
        return found

    def _run(self) -> None:
        try:
            self._result = self._trainer.fit()
        except BaseException as error:
            self._error = error


def needed_cpus(config: TrainConfig) -> int:
    """Logical CPUs of a local Ray with room for all workers."""
    return ceil(config.parallel.workers[1] * config.parallel.num_cpus)


def check_room(config: TrainConfig, device: str, grows: bool, note: Callable[[str], None]) -> None:
    """See that the least number of workers has room on the nodes that are up: Ray waits for it without end.

    Args:
        config: of the run.
        device: `cpu` or `cuda`.
        grows: nodes may still come.
        note: tells the user what the run waits for.

    Raises:
        UserError: there is no room, and no nodes will come.
    """
    least, each = config.parallel.workers[0], _resources(config, device)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A hair more: shares such as 0.1 do not add up to what they should.
    room = sum(min(int(node.get(name, 0.0) / amount + 1e-6) for name, amount in each.items()) for node in nodes)
    if room >= least:
        return
    told = ", ".join(f"{amount:g} {name}" for name, amount in each.items())
    if grows:
        note(
            f"the run needs {least} workers of {told} each, the cluster has room for {room}: it waits until the "
            "cluster has grown"
        )
        return
    raise UserError(
        f"parallel.workers is {least}, each of {told} (parallel.num_cpus, parallel.num_gpus), but the Ray of "
        f"this machine has room for {room}: use fewer or smaller ones, raise cluster.num_cpus where it is set, or join "
        "a cluster with more (RAY_ADDRESS)"
    )


def _resources(config: TrainConfig, device: str) -> dict[str, float]:
    """Of one worker."""
    gpus = config.parallel.num_gpus
    gpus = (1.0 if device == "cuda" else 0.0) if gpus is None else gpus
    return {"CPU": config.parallel.num_cpus, **({"GPU": gpus} if gpus else {})}


def _scaling(config: TrainConfig, device: str) -> ScalingConfig:
    least, most = config.parallel.workers
    resources = _resources(config, device)
    return ScalingConfig(
        num_workers=most if least == most else (least, most), use_gpu="GPU" in resources, resources_per_worker=resources
    )


def _run(config: TrainConfig, sink: Fenced) -> RunConfig:
    """Ray keeps its own notes in the sink too. A new name each time: where to go on from, our checkpoints say."""
    bucket = None if sink.is_local else open_bucket(sink.storage, sink.bucket).filesystem
    filesystem: fs.FileSystem = bucket or fs.LocalFileSystem()
    return RunConfig(
        name=f"attempt-{sink.token:08d}-{time.time_ns() % 10**6}",
        storage_path=f"{sink.uri.removeprefix('s3://')}/ray",
        storage_filesystem=filesystem,
        failure_config=FailureConfig(max_failures=config.parallel.max_failures),
        logging_config=LoggingConfig(log_level="ERROR"),
    )


def _pass_on(post: Any, tell: Callable[[dict[str, Any]], None]) -> None:
    for record in ray.get(post.take.remote()):
        tell(record)
