"""From settings to an engine."""

from uniface_ray.core.config import JobConfig
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Engine
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.engine.weights import model_folder
from uniface_ray.model.configuration import UniFaceConfig


def build_engine(config: JobConfig, device: str, dtype: str, threads: int | None = None) -> Engine:
    """One replica's engine, with its weights on `device`."""
    folder = model_folder(config.model, config.storage)
    if config.engine.kind == "null":
        return NullEngine(UniFaceConfig.from_pretrained(folder).magvit_config.image_size)
    return UniFaceEngine(folder, device, dtype, config.engine.batch_size, threads)
