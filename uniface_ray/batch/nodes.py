"""What every node of a joined cluster must have: this package, and the local paths of the run."""

from collections.abc import Mapping
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder

_TIMEOUT_S = 120


def check_nodes(config: JobConfig, source: str) -> None:
    """Ask each node that is up for the paths of the run that are not in S3.

    Args:
        config: of the run.
        source: address of what is read; empty for a name on the hub.

    Raises:
        UserError: a node cannot import uniface_ray, or a path is not there.
    """
    given = {
        "source.path": "package://" if config.source.path.startswith("package://") else source,
        "sink.path": config.sink.path,
        "model.path": config.model.path,
        "model.adapter": config.model.adapter,
    }
    # `package://` paths come with the package, wherever that lies on a node.
    folders = {
        setting: Folder(path, config.storage)
        for setting, path in given.items()
        if path and not path.startswith("package://")
    }
    paths = {setting: folder.uri for setting, folder in folders.items() if folder.is_local}
    nodes = [node for node in ray.nodes() if node["Alive"]]
    looks = [
        ray.remote(_missing)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(paths)
        for node in nodes
    ]
    try:
        answers = ray.get(looks, timeout=_TIMEOUT_S)
    except Exception as error:
        if "uniface_ray" not in str(error):
            raise
        raise UserError(
            "the cluster's workers cannot import uniface_ray: submit the run with `ray job submit --working-dir . -- "
            "python jobs/caption.py ...`, which takes the package along, or install it on every node"
        ) from error
    for node, missing in zip(nodes, answers, strict=True):
        if missing:
            told = ", ".join(f"{setting}={paths[setting]!r}" for setting in missing)
            raise UserError(
                f"node {node['NodeManagerAddress']} of the cluster has no {told}: on several machines, use s3:// paths "
                "or a folder that all of them share"
            )


def _missing(paths: Mapping[str, str]) -> list[str]:
    return [setting for setting, path in paths.items() if not Path(path).exists()]
