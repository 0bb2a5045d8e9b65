"""Joining a Ray cluster, or starting one on this machine."""

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from uniface_ray.core.config import ClusterConfig
from uniface_ray.core.errors import UniFaceError, UserError

_KNOCK_S = 10.0
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The backend writes to the terminal past Python's logging; errors that matter come as exceptions.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # An interrupted run leaves its pipeline's thread behind: that must not start another Ray in its last moments.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the run has to work with.

    Attributes:
        local: it is this machine alone.
        ours: the run connected to it, and disconnects at its end.
        address: for people.
        cpus: logical.
        gpus: likewise, of the nodes that are up.
    """

    local: bool
    ours: bool
    address: str
    cpus: float
    gpus: float


def joins_cluster(config: ClusterConfig) -> bool:
    """Whether the run joins a cluster that is there already."""
    return _connected() or _address(config) != "local"


def connect(config: ClusterConfig, local_cpus: int) -> Cluster:
    """Join the cluster of `cluster.address` or RAY_ADDRESS, else start a local Ray.

    A process that has called `ray.init` itself keeps its connection, and the run uses it.

    Args:
        config: settings.
        local_cpus: logical CPUs of a local Ray; they are counted, not enforced, so there may be more than cores.

    Raises:
        UserError: no cluster answers there, or it refuses the token.
        UniFaceError: a Ray of our own does not start.
    """
    address = _address(config)
    local = address == "local"
    if _connected():
        return _cluster("of this process", local=False, ours=False)
    for name, value in _RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if local:
        _protect()
    else:
        _check_answers(address)
    import ray

    options = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        with _quiet_stderr():
            if local:
                _start(num_cpus=local_cpus, include_dashboard=False, **options)
            else:
                ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones too
        if local:
            raise UniFaceError(f"Ray does not start on this machine: {' '.join(str(error).split())}") from error
        raise _no_cluster(address, error) from error
    return _cluster(address, local, ours=True)


def _start(**options: Any) -> None:
    """Start a Ray. It gives its own processes half a minute, which on a machine with much to do may be too little."""
    import ray

    try:
        ray.init(address="local", **options)
    except Exception as error:  # a plain Exception, or a TimeoutError
        if "timed out" not in str(error).lower():
            raise
        ray.init(address="local", **options)  # what is left of the first ends with this process


def _cluster(address: str, local: bool, ours: bool) -> Cluster:
    import ray

    resources = ray.cluster_resources()
    return Cluster(local, ours, address, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def _connected() -> bool:
    ray = sys.modules.get("ray")  # importing it takes seconds, and who has not imported it has not connected
    return ray is not None and bool(ray.is_initialized())


def _check_answers(address: str) -> None:
    """Knock at the door: Ray itself keeps trying an address where nobody is for many minutes."""
    scheme, _, host = address.rpartition("://")
    if scheme in ("http", "https"):
        raise UserError(
            f"cluster.address (or RAY_ADDRESS) is {address!r}, which is where jobs are submitted to: use "
            f"`ray job submit --address {address}`, or the cluster's own address, such as {host.split(':')[0]}:6379"
        )
    name, _, port = host.rpartition(":")
    if not port.isdigit():
        return  # "auto" and the like: Ray looks for a cluster on this machine and tells at once
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"no Ray cluster answers at {address!r} (from cluster.address or RAY_ADDRESS): {reason}. Start one with "
        "`ray start --head`, correct the address, or use cluster.address=local; if it wants a token, set "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


def _address(config: ClusterConfig) -> str:
    address = config.address
    return os.environ.get("RAY_ADDRESS") or "local" if address == "auto" else address


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Ray's backend tells on stderr that it was told to be quiet. Python's own errors are raised, not printed."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _protect() -> None:
    """Give a Ray of our own a token of its own, in memory: other users of the machine cannot run code in it."""
    if os.environ.get("RAY_AUTH_MODE") or "ray" in sys.modules:
        return  # the user has decided, or somebody started Ray before
    os.environ["RAY_AUTH_MODE"] = "token"
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
