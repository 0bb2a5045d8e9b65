"""Where a replica runs and in which precision."""

import torch

from uniface_ray.core.config import EngineConfig
from uniface_ray.core.errors import UserError


def resolve_device(engine: EngineConfig, gpus: float) -> str:
    """`engine.device` with `auto` decided: a GPU where the machine or cluster has one, and a model runs on it.

    Args:
        engine: settings.
        gpus: how many there are where the replicas will run.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    if engine.device == "auto":
        return "cuda" if gpus and engine.kind in ("uniface", "transformers") else "cpu"
    if engine.device.startswith("cuda") and not gpus:
        raise UserError(
            f"engine.device is {engine.device}, but there is no GPU that torch can use here: "
            "use engine.device=cpu, or join a cluster with GPUs (RAY_ADDRESS)"
        )
    return engine.device


def resolve_dtype(engine: EngineConfig, device: str) -> str:
    """`engine.dtype` with `auto` decided: float32 on a CPU, bfloat16 on a GPU."""
    if engine.dtype != "auto":
        return engine.dtype
    return "float32" if device == "cpu" else "bfloat16"


def local_gpus() -> int:
    """GPUs of this machine that torch can use."""
    return torch.cuda.device_count()
