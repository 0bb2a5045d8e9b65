"""`uniface train` from settings to a model: checks, the lease of the sink, and whoever trains."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from uniface_ray.cluster import connect, joins_cluster
from uniface_ray.core.errors import StoppedError, UniFaceError, UserError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.interrupts import Asked, InterruptedRunError, interrupts
from uniface_ray.core.lease import Lease, taken
from uniface_ray.core.storage import Folder
from uniface_ray.core.storage_errors import sink_failed
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.core.view import View
from uniface_ray.engine.device import local_gpus
from uniface_ray.engine.weights import CheckedModel, check_model
from uniface_ray.train.base import Base
from uniface_ray.train.hooks import Hooks, Outcome
from uniface_ray.train.loop import train
from uniface_ray.train.lora import check_lora
from uniface_ray.train.mixture import check_batch
from uniface_ray.train.parallel import World
from uniface_ray.train.record import Record
from uniface_ray.train.shards import Shards
from uniface_ray.train.stream import check_kinds, kinds_of
from uniface_ray.train.trained import check_trained

_LEAST_CPUS = 4


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """How a run ended.

    Attributes:
        outcome: of the training.
        sink: its address.
        exit_code: of the process.
    """

    outcome: Outcome
    sink: str
    exit_code: int


def run(config: TrainConfig) -> TrainSummary:
    """Train as `config` says, from the newest checkpoint in the sink where there is one.

    Raises:
        UserError: a mistake in the settings, found before Ray starts wherever it can be.
        SinkInUseError: another run is writing to the sink.
        StoppedError: a loss is no number, or the storage failed.
        InterruptedRunError: a signal, where nothing was under way or for the second time.
        UniFaceError: workers died too often.
    """
    with View.for_console(None, 1.0) as view, interrupts() as asked:
        model = _check(config)
        sink = Folder(config.sink.path, config.storage)
        sink.check("sink.path")
        if not sink.make_writable("sink.path"):
            view.note("the sink's server ignores conditional writes: see to it that no other run writes to it")
        with taken(sink, view.note) as lease:
            return _run_alone(config, model, lease, view, asked)


def _check(config: TrainConfig) -> CheckedModel:
    model = check_model(config.model, config.storage)
    base = Base(config.model, config.storage)
    check_batch(config, config.parallel.workers[1])
    check_lora(config.lora, config.stages)
    if config.parallel.workers[1] == 0 or not joins_cluster(config.cluster):
        _device(config, local_gpus())  # to tell of a mistake now, not when Ray has started
    shards = Shards(config.data.path, config.storage, base.config, config.data.held_out, config.data.held_out_by)
    shards.check()
    if not config.lora.rank:
        check_trained(base.config, config.stages.each(), shards.has_pixels)
    check_kinds(shards, kinds_of(config.stages.each()))
    address = shards.folder.uri
    if f"{Folder(config.sink.path, config.storage).uri}/".startswith(f"{address}/"):
        raise UserError(
            f"sink.path is {config.sink.path!r}, which lies inside data.path ({address!r}): use a folder beside it"
        )
    return model


def _run_alone(config: TrainConfig, model: CheckedModel, lease: Lease, view: View, asked: Asked) -> TrainSummary:
    """The run, on a sink that is its own."""
    try:
        record = Record.open(lease.sink, config, model.fingerprint, lease.token)
    except UserError:
        lease.release(withdraw=True)
        raise
    view.note(f"training {config.model.name} on {config.data.path}")
    steps = record.document["steps"]
    last: int | None = None

    def tell(line: dict[str, Any]) -> None:
        nonlocal last
        last = line["step"]
        view.note(told(line, steps))
        lease.check()

    try:
        record.write("running")
        outcome = _train(config, lease.sink, view, asked, tell)
    except BaseException as error:
        known = sink_failed(lease.sink.uri, error) if isinstance(error, OSError) else error
        with suppress(OSError, UniFaceError):
            record.write(_ended(known), last)
        if known is error:
            raise
        raise known from error
    record.write(outcome.state, outcome.step)
    lines = [("steps", f"{outcome.step:,} of {steps:,}")]
    if outcome.state == "done":
        lines.append(("model", f"{lease.sink.uri}/model (try: uniface caption source=demo model.path=...)"))
    else:
        lines.append(("resume", "the same command goes on from here"))
    view.finish([*lines, ("report", f"{lease.sink.uri}/report.html")])
    code = 0 if outcome.state == "done" else 128 + (asked.number or 15)
    return TrainSummary(outcome, lease.sink.uri, code)


def _train(
    config: TrainConfig, sink: Fenced, view: View, asked: Asked, tell: Callable[[dict[str, Any]], None]
) -> Outcome:
    if config.parallel.workers[1] == 0:
        device = _device(config, local_gpus())
        if config.parallel.threads:
            torch.set_num_threads(config.parallel.threads)
        world = World(config.parallel, torch.device(device), getattr(torch, _dtype(config, device)))
        asked.patient = True
        hooks = Hooks(stopping=lambda: asked.number is not None, tell=tell)
        return train(config, Base(config.model, config.storage), world, sink, hooks)
    view.note("joining Ray" if joins_cluster(config.cluster) else "starting Ray")
    # Only now: importing ray takes seconds, which a mistake in the settings should not cost.
    from uniface_ray.nodes import check_nodes, local_paths
    from uniface_ray.train.group import check_room, needed_cpus, train_on_ray

    given = config.cluster.num_cpus
    cluster = connect(config.cluster, given or max(_LEAST_CPUS, os.cpu_count() or 1, needed_cpus(config)))
    asked.listen()  # once more: Ray takes SIGTERM for itself when it starts
    device = _device(config, cluster.gpus)
    if not cluster.local:
        # The first worker, which reads and writes checkpoints, may be on any node, and after a failure on another.
        paths = {"data.path": config.data.path, "sink.path": config.sink.path, "model.path": config.model.path}
        check_nodes("uniface_ray.train.worker", local_paths(paths, config.storage), view.note)
    check_room(config, device, grows=not cluster.local, note=view.note)
    asked.patient = True
    return train_on_ray(config, device, _dtype(config, device), sink, asked, tell)


def _ended(error: BaseException) -> str:
    """The state of a run that an error has ended."""
    if isinstance(error, InterruptedRunError):
        return "interrupted"
    return "stopped" if isinstance(error, StoppedError) else "failed"


def _device(config: TrainConfig, gpus: float) -> str:
    if config.parallel.device == "cuda" and not gpus:
        raise UserError(
            "parallel.device is cuda, but there is no GPU that torch can use: use parallel.device=cpu, or join a "
            "cluster with GPUs (RAY_ADDRESS)"
        )
    return config.parallel.device if config.parallel.device != "auto" else ("cuda" if gpus else "cpu")


def _dtype(config: TrainConfig, device: str) -> str:
    if config.parallel.dtype != "auto":
        return config.parallel.dtype
    return "float32" if device == "cpu" else "bfloat16"


def told(line: dict[str, Any], steps: int) -> str:
    """A record as a line for people."""
    if "note" in line:
        return str(line["note"])
    step = f"step {line['step']:,} of {steps:,}"
    if "loss/total" not in line:
        losses = ", ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in line.items() if "/" in name)
        return f"{step}, held out: {losses or 'no rows'}"
    parts = ", ".join(f"{name} {line[f'loss/{name}']:.3f}" for name in ("text", "mask", "score", "balance"))
    return (
        f"{step}: loss {line['loss/total']:.3f} ({parts}), {line['tokens_per_s']:,.0f} tokens/s, "
        f"rate {line['learning_rate']:.2g}, {line['memory_gb']:.1f} GB"
    )


__all__ = ["InterruptedRunError", "TrainSummary", "run", "told"]
