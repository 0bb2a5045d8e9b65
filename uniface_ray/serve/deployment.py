"""The Ray shells: doors, which read requests and pictures, before replicas of each model; and both as an application.

`serve deploy` builds `application` from the arguments of its YAML, which are the settings of `uniface serve`.
"""

import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from uniface_ray.core.compose import compose
from uniface_ray.core.config import ModelConfig
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.engine.device import resolve_device, resolve_dtype
from uniface_ray.engine.protocol import Request
from uniface_ray.serve.app import build_app
from uniface_ray.serve.draining import drain
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.guarding import rule_of
from uniface_ray.serve.keys import check_open, with_environment
from uniface_ray.serve.models import News, outcome_of
from uniface_ray.serve.ray_numbers import ray_numbers
from uniface_ray.serve.remote_model import RemoteModel
from uniface_ray.serve.routing import RoomRouter
from uniface_ray.serve.scaling import DRAWINGS, BySlots
from uniface_ray.serve.shared_limits import shared_gate

if TYPE_CHECKING:  # a door starts in a third of the time without what only models need
    from uniface_ray.serve.catalogue import Entry
    from uniface_ray.serve.loop import EngineLoop

# A door refuses by its own rules, told in OpenAI's shape; Serve's own limit lies far beyond.
_DOOR_REQUESTS = 4096
_TRIES = 3
# Of requests for a replica's slots: more replicas when the mean is above it.
_FULL = 0.8
_TOLD_S = 1.0
_LOAD_S = 2.0  # between two looks at the slots in use
# glibc, which reads it at the start of a process only, else gives the engine's thread arenas of its own and returns
# their memory to the system after each step, to ask for the same pages again.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1"}


class ModelReplica:
    """A replica of one model (see `replica.Replica`)."""

    def __init__(self, config: ServeConfig, model: ModelConfig, device: str, dtype: str, threads: int | None) -> None:
        from uniface_ray.serve.catalogue import build_loop
        from uniface_ray.serve.replica import Replica

        def make(one: ModelConfig) -> "EngineLoop":
            # Its requests are asked again elsewhere, those that it worked at apart: so they are told before it is gone.
            return build_loop(
                config, one, device, dtype, threads, broken=threading.Timer(_TOLD_S, os._exit, (1,)).start
            )

        self._replica = Replica(config, model, make)
        self._id = serve.get_replica_context().replica_id.unique_id
        threading.Thread(target=self._tell_load, name="load", daemon=True).start()

    async def answer(self, request: Request, full: Sequence[str] = ()) -> News:
        """The outcome; `full` is for the router."""
        with self._named():
            return News(await outcome_of(self._replica, request), last=True)

    async def watch(self, request: Request, full: Sequence[str] = ()) -> AsyncGenerator[News]:
        """What is known as it comes, and the outcome; `full` is for the router."""
        with self._named():
            async for news in self._replica.ask(request):
                yield news

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve cannot count by itself, for `BySlots`."""
        return {DRAWINGS: float(self._replica.loop.drawings)}

    async def ready(self) -> bool:
        """Whether it takes requests."""
        return await self._replica.ready()

    async def reload(self) -> str:
        """Take the weights that are at the model's path now."""
        return await self._replica.reload()

    async def reconfigure(self, user_config: Mapping[str, str]) -> None:
        """Take the weights at `path` of a newer deployment; `version` may be any word, to take what is there now."""
        try:
            await self._replica.reload(user_config.get("path"))
        except Exception as error:  # Serve would stop the replica, which has weights that work
            print(f"the old weights stay at work: {error}", flush=True)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        self._replica.check()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let a refusal say whose it is: another replica may have room."""
        try:
            yield
        except ApiError as error:
            error.replica = self._id
            raise

    def _tell_load(self) -> None:
        """To Prometheus, as Ray exports it: the sum over replicas is the model's."""
        while True:
            for kind, number in self._replica.loop.load.items():
                tags = {"model": self._replica.model.name, "kind": kind}
                ray_numbers().set("uniface_model_slots", number, tags)
            time.sleep(_LOAD_S)


@serve.ingress()
class Door:
    """A replica of what clients talk to (see `app.build_app`)."""

    def __init__(self, config: ServeConfig, models: dict[str, DeploymentHandle], sizes: dict[str, int]) -> None:
        waiting = config.serve.max_waiting
        room = room_of(config)
        most = config.engine.bounds[1]
        served = {name: RemoteModel(handle, sizes[name], waiting, room, most) for name, handle in models.items()}
        self._app = build_app(config, served, shared_gate(rule_of(config)), [ray_numbers()])

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def drain(self) -> int:
        """Let nobody in any more, and wait for those who are; how many are left after `serve.drain_s`."""
        return await drain(self._app)


def build_application(config: ServeConfig, entries: "Sequence[Entry]", device: str, threads: int | None) -> Application:
    """Doors before the models.

    Args:
        config: of the server, with all keys.
        entries: the models.
        device: torch device of the replicas.
        threads: torch threads of one.
    """
    dtype = resolve_dtype(config.engine, device)
    models = {
        entry.model.name: _replicas(config, entry.model, device).bind(config, entry.model, device, dtype, threads)
        for entry in entries
    }
    sizes = {entry.model.name: entry.checked.image_size for entry in entries}
    doors = serve.deployment(Door).options(
        name="door",
        num_replicas=config.serve.doors,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_DOOR_REQUESTS,
        max_queued_requests=_DOOR_REQUESTS,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=config.serve.drain_s,
        logging_config=LoggingConfig(enable_access_log=False),
    )
    return doors.bind(config, models, sizes)


def _replicas(config: ServeConfig, model: ModelConfig, device: str) -> Any:
    engine, settings = config.engine, config.serve
    slots, room = engine.batch_size + settings.image_batch, 2 * settings.max_waiting
    least, most = engine.bounds
    gpus = engine.num_gpus if engine.num_gpus is not None else float(device != "cpu")
    return serve.deployment(ModelReplica).options(
        name=f"model-{model.name}",
        **({"num_replicas": least} if least == most else {"autoscaling_config": scaling_of(config)}),
        ray_actor_options={
            "num_cpus": engine.num_cpus,
            "num_gpus": gpus,
            "runtime_env": _environment(),
        },
        # The replica itself refuses what has no room, at once; a few more let health and readiness through.
        max_ongoing_requests=slots + room + 8,
        # They wait at a door while a lost replica is replaced.
        max_queued_requests=slots + room,
        **({"request_router_config": RequestRouterConfig(request_router_class=RoomRouter)} if most > 1 else {}),
        user_config={"path": model.path},
        health_check_period_s=settings.health_s,
        health_check_timeout_s=settings.health_s * 3,
        graceful_shutdown_timeout_s=settings.drain_s,
        max_constructor_retry_count=_TRIES,
        logging_config=LoggingConfig(enable_access_log=False),
    )


def scaling_of(config: ServeConfig) -> AutoscalingConfig:
    """When replicas of a model come and go: by the slots that answers and drawings take, each of which has its own."""
    slots, settings = config.engine.batch_size, config.serve
    least, most = config.engine.bounds
    # By its name: Serve pickles the module as a whole, so that its controller need not have it.
    policy = AutoscalingPolicy(
        policy_function=f"{BySlots.__module__}:{BySlots.__name__}",
        policy_kwargs={"weight": slots / min(settings.image_batch, slots)},
    )
    return AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        target_ongoing_requests=max(1.0, _FULL * slots),
        upscale_delay_s=settings.upscale_delay_s,
        downscale_delay_s=settings.downscale_delay_s,
        policy=policy,
    )


def _environment() -> dict[str, Any]:
    """Of replicas: the job's, which Serve gives only to deployments that have none, and the allocator's settings."""
    given = dict(ray.get_runtime_context().runtime_env) if ray.is_initialized() else {}
    return {**given, "env_vars": {**_ALLOCATOR, **given.get("env_vars", {})}}


def room_of(config: ServeConfig) -> tuple[int, int]:
    """Answers and drawings that all replicas of a model, as many as there may be, take before they refuse the next."""
    most, waiting = config.engine.bounds[1], config.serve.max_waiting
    slots = config.engine.batch_size
    return most * (slots + waiting), most * (min(config.serve.image_batch, slots) + waiting)


def replica_threads(config: ServeConfig, models: int, local: bool) -> int:
    """Torch threads of one replica: as configured; on this machine alone its cores shared; else its share of a node."""
    if config.engine.threads is not None:
        return config.engine.threads
    if local:
        return max(1, (os.cpu_count() or 1) // (config.engine.bounds[1] * models))
    return max(1, int(config.engine.num_cpus))


def application(settings: dict[str, Any]) -> Application:
    """What `serve deploy` asks for.

    Args:
        settings: of `uniface serve`, as in {"model.path": "s3://bucket/weights", "engine.replicas": [1, 4]}.

    Raises:
        UserError: as the command.
    """
    from uniface_ray.serve.catalogue import catalogue

    typed = [f"{name}={_typed(value)}" for name, value in settings.items()]
    config = compose("serve", typed, ServeConfig)
    config = config.model_copy(update={"guard": with_environment(config.guard, os.environ)})
    check_open(config.guard, "0.0.0.0")  # the address is the cluster's to decide: it may be any
    entries = catalogue(config)
    gpus = ray.cluster_resources().get("GPU", 0.0)
    device = "cuda" if config.engine.device == "cuda" else resolve_device(config.engine, gpus)
    return build_application(config, entries, device, replica_threads(config, len(entries), local=False))


def _typed(value: Any) -> str:
    """A value of YAML as it is typed at a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


__all__ = ["Door", "ModelReplica", "application", "build_application", "replica_threads", "scaling_of"]
