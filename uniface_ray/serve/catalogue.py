"""Which models a server has, checked before anybody waits for them, and the engine of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uniface_ray.core.config import ModelConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.adapters import check_adapter, is_adapter
from uniface_ray.engine.aside import aside
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Ask, Draw, Engine
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.engine.weights import CheckedModel, check_model, model_folder
from uniface_ray.serve.loop import EngineLoop


@dataclass(frozen=True, slots=True)
class Entry:
    """One model.

    Attributes:
        model: name and path, as requests and operators call it.
        checked: what its files say.
    """

    model: ModelConfig
    checked: CheckedModel


def catalogue(config: ServeConfig) -> Sequence[Entry]:
    """The models of the settings, `model` first.

    Raises:
        UserError: one is not there or not whole, two have the same name, an engine that is somewhere else.
    """
    if config.engine.kind == "openai":
        raise UserError("engine.kind is openai, which is a server already: serve runs models of its own, with uniface")
    if config.engine.kind == "transformers":
        raise UserError(
            "engine.kind is transformers, which runs in jobs only: serve runs models of its own, with uniface"
        )
    named = [one.partition("=") for one in config.serve.models]
    models = [config.model, *(ModelConfig(name=name, path=path) for name, _, path in named)]
    if config.model.adapter:
        raise UserError("model.adapter is for jobs: name the adapter in serve.models, as in serve.models=[tuned=path]")
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise UserError(f"serve.models and model.name name {', '.join(names)}: give every model a name of its own")
    return [Entry(model, check(config, model)) for model in models]


def check(config: ServeConfig, model: ModelConfig) -> CheckedModel:
    """Look at one of the models, or at an adapter of the first.

    Raises:
        UserError: it is not there or not whole.
    """
    if _is_adapter(config, model):
        return check_adapter(model, config.model, config.storage)
    return check_model(model, config.storage)


def files_of(config: ServeConfig, model: ModelConfig) -> str:
    """Names, sizes and times of a model's files: they tell of newer weights where the samples of `check` do not."""
    paths = [model.path, config.model.path][: 1 + _is_adapter(config, model)]
    return repr([Folder(path, config.storage).list() for path in paths])


def _is_adapter(config: ServeConfig, model: ModelConfig) -> bool:
    return model.name != config.model.name and is_adapter(Folder(model.path, config.storage))


def build_engine(config: ServeConfig, model: ModelConfig, device: str, dtype: str, threads: int | None) -> Engine:
    """A model's engine, with its weights on `device`."""
    if config.engine.kind == "null":
        return NullEngine(check(config, model).image_size)
    adapter = None
    folder = model_folder(model, config.storage)
    if _is_adapter(config, model):
        adapter, folder = folder, model_folder(config.model, config.storage)
    return UniFaceEngine(
        folder,
        device,
        dtype,
        config.engine.batch_size,
        threads,
        image_share=config.serve.image_share,
        image_batch=config.serve.image_batch,
        adapter=adapter,
        compiled=(Ask, Draw) if config.engine.compile else (),
        recorded=config.engine.cuda_graphs,
    )


def build_loop(
    config: ServeConfig,
    model: ModelConfig,
    device: str,
    dtype: str,
    threads: int | None = None,
    broken: Callable[[], None] = lambda: None,
) -> EngineLoop:
    """A model at work; for `broken` see `EngineLoop`."""
    engine = aside(lambda: build_engine(config, model, device, dtype, threads))  # the loop's thread will step it
    images = min(config.serve.image_batch, config.engine.batch_size)
    return EngineLoop(
        engine, config.engine.batch_size, images, config.serve.max_waiting, config.serve.timeout_s, broken
    )


__all__ = ["Entry", "build_engine", "build_loop", "catalogue", "check", "files_of"]
