"""`uniface serve`: from settings to a server that runs until it is told to end."""

import asyncio
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from types import FrameType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from uniface_ray.cluster import Cluster, connect, joins_cluster
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.interrupts import InterruptedRunError, interrupts
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.device import local_gpus, resolve_device
from uniface_ray.serve.catalogue import Entry, catalogue
from uniface_ray.serve.keys import MAKE_KEY, check_open, with_environment

_T = TypeVar("_T")
_APP = "uniface"
_LEAST_CPUS = 4
_LOOK_S = 0.2
_KNOCK_S = 10.0
_SERVE_SETTINGS = {
    # A proxy that takes longer to start, on a busy machine, would be killed in the middle of it, and the server too.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # By default Ray's workers let all other processes go before: right for a batch, wrong for somebody who waits.
    "RAY_worker_niceness": "0",
    # Nothing in the doors and replicas blocks their event loop, so Serve need not keep one for itself: each hop between
    # the two costs every request and every token time.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


def run(config: ServeConfig) -> int:
    """`uniface serve`; for errors see `serve`, and for a second signal there is no more patience."""
    try:
        return serve(config)
    except InterruptedRunError as error:
        return error.exit_code


def serve(config: ServeConfig) -> int:
    """Serve until SIGINT or SIGTERM, then let what is under way end; SIGHUP takes newer weights.

    Returns:
        The exit code: 130 or 143.

    Raises:
        UserError: a mistake in the settings, found before Ray starts wherever it can be.
        UniFaceError: a model does not load.
    """
    config = config.model_copy(update={"guard": with_environment(config.guard, os.environ)})
    check_open(config.guard, config.serve.host)
    entries = catalogue(config)
    _check_files(config)
    cpus = _local_cpus(config, len(entries))
    if not joins_cluster(config.cluster):
        _check_port(config.serve.host, config.serve.port)
        resolve_device(config.engine, local_gpus())
    for name, value in _SERVE_SETTINGS.items():  # before Ray's processes start, which have them from this one
        os.environ.setdefault(name, value)
    # A filter, because Serve sets the level when it starts.
    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
    with interrupts() as asked:
        print("starting Ray", flush=True)
        cluster = connect(config.cluster, cpus)
        asked.listen()  # once more: Ray takes SIGTERM for itself when it starts
        _serve(config, entries, cluster)
        asked.patient = True
        reload = _Reload()
        try:
            names = ", ".join(entry.model.name for entry in entries)
            print(f"{names} at http://{config.serve.host}:{config.serve.port}/ (Ctrl-C ends it)", flush=True)
            if not config.guard.keys:
                print(f"no API keys: whoever gets here may ask; `{MAKE_KEY}` makes one", flush=True)
            while asked.number is None:
                if reload.take():
                    _reload(entries)
                time.sleep(_LOOK_S)
            print(f"ending; requests under way have {config.serve.drain_s:g} s", flush=True)
            _end(cluster)
        finally:
            asked.patient = False
        return 128 + asked.number


class _Reload:
    """Whether SIGHUP has come since the last look."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGHUP, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._asked = True

    def take(self) -> bool:
        """Look, and forget it."""
        asked, self._asked = self._asked, False
        return asked


def _serve(config: ServeConfig, entries: Sequence[Entry], cluster: Cluster) -> None:
    # Only now: importing it takes seconds, which a mistake in the settings should not cost.
    import ray.serve
    from ray.exceptions import RayError

    from uniface_ray.serve.deployment import build_application, replica_threads

    device = "cuda" if config.engine.device == "cuda" else resolve_device(config.engine, cluster.gpus)
    threads = replica_threads(config, len(entries), cluster.local)
    http = {
        "host": config.serve.host,
        "port": config.serve.port,
        # Of the exchange as a whole, and told without a reason: the doors tell before it who came or waited too long.
        "request_timeout_s": config.serve.timeout_s + config.serve.drain_s + config.guard.body_timeout_s,
    }
    print(f"loading {', '.join(entry.model.path for entry in entries)} on {device}", flush=True)
    cpus = config.engine.bounds[0] * config.engine.num_cpus * len(entries)
    if cpus > cluster.cpus or (device == "cuda" and not cluster.gpus):
        more = f"{cpus:g} CPUs" if cpus > cluster.cpus else "a GPU"
        print(f"the server waits until the cluster has grown {more} (Ctrl-C ends it)", flush=True)
    try:
        ray.serve.start(http_options=http)
        ray.serve.run(build_application(config, entries, device, threads), name=_APP)
    except (RuntimeError, TimeoutError, RayError) as error:
        told = did_not_start(error, _messages())
        _leave(cluster)
        raise told from error
    except InterruptedRunError:
        _leave(cluster)
        raise


def _messages() -> list[str]:
    """What Serve has to say about deployments that are not as they should be."""
    import ray.serve

    found = ray.serve.status().applications.get(_APP)
    return [one.message for one in found.deployments.values() if one.status != "HEALTHY"] if found else []


def did_not_start(error: Exception, messages: Sequence[str]) -> UniFaceError:
    """What the user is told: the first cause that a deployment names, without the traceback around it.

    Args:
        error: of Serve, which names deployments only.
        messages: of the deployments; each ends in the error of a replica, as Python prints it.
    """
    for message in messages:
        _, *causes = re.split(r"^(?=[\w.]+(?:Error|Exception): )", message.strip(), flags=re.MULTILINE)
        if causes:
            kind, _, what = causes[-1].partition(": ")
            if kind.endswith(UserError.__name__):
                return UserError(what)
            return UniFaceError(f"the server did not start: {causes[-1]}")
    return UniFaceError(f"the server did not start: {error}")


def _of_all(deployment: str, method: str) -> list[Any]:
    """What all replicas of a deployment answer."""
    import ray.serve

    handle = ray.serve.get_deployment_handle(deployment, _APP)

    async def ask() -> list[Any]:
        return list(await handle.broadcast(method).results_async())

    return _beside(ask())


def _beside(work: Coroutine[Any, Any, _T]) -> _T:
    """What comes of it in the event loop that Serve's handles need: this thread has none."""
    return asyncio.run_coroutine_threadsafe(work, _handles_loop()).result()


@lru_cache(maxsize=1)
def _handles_loop() -> asyncio.AbstractEventLoop:
    """The one loop in which they live, as long as the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="handles", daemon=True).start()
    return loop


def _reload(entries: Sequence[Entry]) -> None:
    """All replicas of all models take the weights that are there now; those that cannot be used are told."""
    for entry in entries:
        name = entry.model.name
        try:
            versions = _of_all(f"model-{name}", "reload")
            print(f"{name}: {len(versions)} replicas with the weights {sorted(set(versions))[0][:12]}", flush=True)
        except Exception as error:
            print(f"{name}: the old weights stay at work: {getattr(error, 'cause', None) or error}", flush=True)


def _end(cluster: Cluster) -> None:
    """Doors first, so that whatever they have let in finds its model."""
    import ray.serve

    left = sum(_of_all("door", "drain"))
    if left:
        print(f"{left} requests did not end in time", flush=True)
    # Ray tells on standard output of each actor that Serve ends.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        if cluster.local:
            _beside(ray.serve.shutdown_async())  # the proxy sends what the doors have given it
        _leave(cluster)


def _leave(cluster: Cluster) -> None:
    import ray.serve

    if not cluster.local:
        ray.serve.delete(_APP)
    if cluster.ours:
        ray.shutdown()


def _check_files(config: ServeConfig) -> None:
    """Prove that files can be kept, and that somebody takes batches.

    Raises:
        UserError: they cannot, or nobody does.
    """
    files = config.files
    if files.path is None:
        return
    if files.jobs is not None:
        address = urlsplit(files.jobs)
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), _KNOCK_S).close()
        except (OSError, ValueError) as error:
            raise UserError(
                f"files.jobs is {files.jobs!r}, where no Ray cluster's job API answers ({error}): correct the address, "
                "such as http://head:8265, or leave it out to run batches beside the server"
            ) from error
    Folder(files.path, config.storage).make_writable("files.path")


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(
                f"serve.host={host} serve.port={port} cannot be listened on: {error.strerror}. Give another "
                f"port, as in serve.port={port + 1 if port < 65535 else port - 1}, or end what listens there"
            ) from error


def _local_cpus(config: ServeConfig, models: int) -> int:
    """Logical CPUs of a Ray on this machine.

    Raises:
        UserError: `cluster.num_cpus` leaves no room for the replicas.
    """
    least, most = (round(count * config.engine.num_cpus * models + 0.5) for count in config.engine.bounds)
    given = config.cluster.num_cpus
    if given is not None and given < least:
        raise UserError(
            f"cluster.num_cpus is {given}, but {models} models with {config.engine.bounds[0]} replicas of "
            f"engine.num_cpus={config.engine.num_cpus:g} need {least}: raise it, or lower the others"
        )
    return given or max(_LEAST_CPUS, os.cpu_count() or 1, most)


__all__ = ["did_not_start", "run"]
