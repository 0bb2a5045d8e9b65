"""The HTTP application, over models that may be in this process or anywhere else."""

import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.version import __version__
from uniface_ray.serve.batches import add_batches
from uniface_ray.serve.chat import chat_router
from uniface_ray.serve.draining import Draining, Presence
from uniface_ray.serve.errors import add_handlers
from uniface_ray.serve.files import files_router
from uniface_ray.serve.guarding import closing, guard
from uniface_ray.serve.images import images_router
from uniface_ray.serve.limits import Gate
from uniface_ray.serve.metrics import Counted, Exporter, Metrics, metrics_router
from uniface_ray.serve.models import Models, Served, models_router
from uniface_ray.serve.page import page_router


def build_app(
    config: ServeConfig, models: Mapping[str, Served], gate: Gate | None = None, exporters: Sequence[Exporter] = ()
) -> FastAPI:
    """The endpoint.

    Args:
        config: its settings.
        models: by the name that requests call them; the first one is taken where a request names none.
        gate: limits of each key that hold for several replicas; None where this is the only one.
        exporters: of numbers, besides `/metrics`.
    """
    app = FastAPI(
        title="uniface_ray",
        version=__version__,
        summary="Faces described and drawn, in the words of OpenAI's API",
        lifespan=closing,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.config = config
    metrics = Metrics(exporters)
    counted = {name: Counted(name, model, metrics) for name, model in models.items()}
    app.state.models = Models(counted)
    add_handlers(app)
    # It warns of each form that is none, as long as the form: the client is told, and others need not know.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    guard(app, config, gate, metrics)
    app.state.presence = Presence(config.serve.drain_s)
    app.add_middleware(Draining, state=app.state.presence)
    app.include_router(models_router())
    app.include_router(chat_router())
    app.include_router(images_router())
    app.include_router(page_router())
    app.include_router(metrics_router(metrics, list(counted.values())))
    app.include_router(files_router())
    add_batches(app, config, {name: model.image_size for name, model in models.items()})
    return app


__all__ = ["build_app"]
