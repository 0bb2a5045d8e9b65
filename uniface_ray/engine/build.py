"""From settings to an engine."""

from uniface_ray.core.config import JobConfig
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.engine.weights import model_folder


def build_engine(config: JobConfig, device: str, dtype: str, threads: int | None = None) -> UniFaceEngine:
    """One replica's engine, with its weights on `device`."""
    folder = model_folder(config.model, config.storage)
    return UniFaceEngine(folder, device, dtype, config.engine.batch_size, threads)
