"""From settings to an engine.

Its process imports what the kind of engine needs, and no more: models' libraries take seconds and memory, which the
replicas of a remote server, of which there may be many, do not have to spend.
"""

from uniface_ray.core.config import HUB, JobConfig
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Ask, Draw, Engine, Request, Score
from uniface_ray.engine.remote import RemoteEngine

# What tasks ask of the transformer.
_ASKED: dict[str, list[type[Request]]] = {
    "caption": [Ask],
    "vqa": [Ask],
    "generate": [Draw],
    "edit": [Draw],
    "score": [Score],
}


def build_engine(config: JobConfig, device: str, dtype: str, threads: int | None = None) -> Engine:
    """One replica's engine, with its weights on `device`.

    Args:
        config: of the run.
        device: torch device.
        dtype: of the model.
        threads: of torch; None for its own choice.
    """
    kind = config.engine.kind
    if kind == "openai":
        return RemoteEngine(config.remote, config.remote.image_size)
    if kind == "null":
        return NullEngine(check_engine(config).image_size)
    if kind == "transformers":
        return _chat_engine(config, device, dtype, threads)
    from uniface_ray.engine.adapters import split
    from uniface_ray.engine.uniface import UniFaceEngine
    from uniface_ray.engine.weights import model_folder

    _, adapter = split(config.model)
    return UniFaceEngine(
        model_folder(config.model, config.storage),
        device,
        dtype,
        config.engine.batch_size,
        threads,
        adapter=model_folder(adapter, config.storage) if adapter else None,
        compiled=_ASKED.get(config.task.name, ()) if config.engine.compile else (),
        recorded=config.engine.cuda_graphs,
    )


def _chat_engine(config: JobConfig, device: str, dtype: str, threads: int | None) -> Engine:
    from uniface_ray.engine.chat_model import check_chat_model
    from uniface_ray.engine.huggingface import TransformersEngine
    from uniface_ray.engine.weights import model_folder

    size = check_chat_model(config.model, config.storage, config.engine.image_size).image_size
    source = config.model.path.removeprefix(HUB)
    path = source if source != config.model.path else model_folder(config.model, config.storage)
    return TransformersEngine(path, size, device, dtype, config.engine.batch_size, threads)
