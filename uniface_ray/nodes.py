"""What every node of a joined cluster must have: this package, and the local paths of the run."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from uniface_ray.core.config import HUB, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder

_PACKAGE = "package://"
# A node may install what the run needs before it answers, torch among it.
_TIMEOUT_S = 900.0
_NOTE_S = 30.0


def check_nodes(
    module: str, paths: Mapping[str, str], note: Callable[[str], None], timeout_s: float = _TIMEOUT_S
) -> None:
    """Ask each node that is up for the paths of the run that are not in S3.

    Args:
        module: that workers import.
        paths: of the run by setting, see `local_paths`.
        note: tells the user why nothing happens yet.
        timeout_s: that the nodes have for their answer, setting up their environment included.

    Raises:
        UserError: a node cannot import uniface_ray, does not answer, or a path is not there.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    looks = {
        ray.remote(_looker())
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(module, paths): address
        for node, address in nodes.items()
    }
    first_s = min(_NOTE_S, timeout_s)
    _, silent = ray.wait(list(looks), num_returns=len(looks), timeout=first_s)
    if silent:
        note(f"waiting for {len(silent)} of {len(looks)} nodes, which may be installing what the run needs")
        _, silent = ray.wait(silent, num_returns=len(silent), timeout=timeout_s - first_s)
    if silent:
        raise UserError(
            f"node {looks[silent[0]]} of the cluster has not answered for {timeout_s:g} s (one of {len(silent)}): "
            "its log runtime_env_setup-*.log tells how far it is with what `pip` or `working_dir` of the job's runtime "
            "environment name. The same command starts again; an image that has the packages needs no such time"
        )
    for look, address in looks.items():
        try:
            missing = ray.get(look)
        except RuntimeEnvSetupError as error:
            raise UserError(
                f"node {address} of the cluster cannot set up the job's runtime environment: {error}. Correct its "
                "`pip` or `working_dir`, or use an image that has the packages"
            ) from error
        except ImportError as error:  # Ray's error is of the type that the worker raised, too
            raise UserError(
                f"node {address} of the cluster cannot import uniface_ray, or what it needs "
                f"({str(error).strip().splitlines()[-1]}): submit the run with `ray job submit --working-dir . -- "
                "python jobs/caption.py ...`, which takes the package along, or install it on every node"
            ) from error
        except RayTaskError:
            raise
        except RayError:
            continue  # the node is gone since, and takes no part
        if missing:
            told = ", ".join(f"{setting}={paths[setting]!r}" for setting in missing)
            raise UserError(
                f"node {address} of the cluster has no {told}: on several machines, use s3:// paths or a folder that "
                "all of them share"
            )


def local_paths(given: Mapping[str, str], storage: StorageConfig) -> dict[str, str]:
    """Paths by setting, without those that every node has or reaches: of the package, in S3, on the hub."""
    # `package://` paths come with the package, wherever that lies on a node.
    folders = {
        setting: Folder(path, storage)
        for setting, path in given.items()
        if path and not path.startswith((_PACKAGE, HUB))
    }
    return {setting: folder.uri for setting, folder in folders.items() if folder.is_local}


def _looker() -> Callable[[str, Mapping[str, str]], list[str]]:
    """What a node does: import a module, and give the settings whose paths are not there.

    A function in a function travels as its code, so a node without uniface_ray can run it and say so.
    """

    def look(module: str, paths: Mapping[str, str]) -> list[str]:
        importlib.import_module(module)
        return [setting for setting, path in paths.items() if not Path(path).exists()]

    return look
