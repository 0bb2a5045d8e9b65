"""Where a replica runs, in which precision, and what that rules out."""

import os
import shutil

from uniface_ray.core.engine_config import EngineConfig
from uniface_ray.core.errors import UserError


def resolve_device(engine: EngineConfig, gpus: float, looks: bool = False) -> str:
    """`engine.device` with `auto` decided: a GPU where the machine or cluster has one, and a model runs on it.

    Args:
        engine: settings.
        gpus: how many there are where the replicas will run.
        looks: replicas have models beside the engine, as those of the task `measure` do.

    Raises:
        UserError: a GPU was asked for and there is none; a switch that does not work there.
    """
    if engine.device.startswith("cuda") and not gpus:
        raise UserError(
            f"engine.device is {engine.device}, but there is no GPU that torch can use here: "
            "use engine.device=cpu, or join a cluster with GPUs (RAY_ADDRESS)"
        )
    device = engine.device
    if device == "auto":
        device = "cuda" if gpus and (engine.holds_model or looks) else "cpu"
    if device == "cpu":
        _check_switches(engine)
    return device


def _check_switches(engine: EngineConfig) -> None:
    """On a CPU."""
    if engine.cuda_graphs:
        raise UserError(
            "engine.cuda_graphs is true, but the replicas run on a CPU, which has no CUDA graphs: "
            "use engine.cuda_graphs=false, or engine.device=cuda where there are GPUs"
        )
    compiler = os.environ.get("CXX", "g++")
    if engine.compile and not shutil.which(compiler):
        raise UserError(
            f"engine.compile is true, but there is no C++ compiler {compiler} here, which torch.compile needs: "
            "install one (apt-get install g++), name another in CXX, or use engine.compile=false"
        )


def resolve_dtype(engine: EngineConfig, device: str) -> str:
    """`engine.dtype` with `auto` decided: float32 on a CPU, bfloat16 on a GPU."""
    if engine.dtype != "auto":
        return engine.dtype
    return "float32" if device == "cpu" else "bfloat16"


def local_gpus() -> int:
    """GPUs of this machine that torch can use."""
    import torch  # only here: it takes seconds

    return torch.cuda.device_count()
