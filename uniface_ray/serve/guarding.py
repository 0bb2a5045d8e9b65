"""All that stands between the network and the routes, put around an application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.serve.access import Access, print_line
from uniface_ray.serve.batches import sweep, tend
from uniface_ray.serve.limits import Gate, Rule
from uniface_ray.serve.metrics import Metrics
from uniface_ray.serve.pictures import pictures_of

# Of an upload's form, beside the file.
_FORM_BYTES = 65536


def rule_of(config: ServeConfig) -> Rule:
    """What each key may ask."""
    return Rule(config.guard.requests_per_min, config.guard.concurrency, config.serve.timeout_s)


def guard(app: FastAPI, config: ServeConfig, gate: Gate | None, metrics: Metrics) -> None:
    """Put the door before `app`, and `app.state.pictures` behind it.

    Args:
        app: with the lifespan `closing`.
        config: with all keys (`keys.with_environment`).
        gate: that counts for all replicas; None where there is but this one.
        metrics: what is counted.
    """
    settings = config.guard
    app.state.pictures = pictures_of(config)
    app.add_middleware(
        Access,
        settings=settings,
        gate=gate or Gate(rule_of(config)),
        body_bytes={"/v1/files": config.files.max_bytes + _FORM_BYTES},
        ended=(metrics.visit, print_line) if settings.access_log else (metrics.visit,),
    )


@asynccontextmanager
async def closing(app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of a guarded application."""
    tending = [asyncio.create_task(work(app)) for work in (tend, sweep)] if app.state.batches else []
    yield
    for task in tending:
        task.cancel()
    await app.state.pictures.close()


__all__ = ["closing", "guard", "rule_of"]
