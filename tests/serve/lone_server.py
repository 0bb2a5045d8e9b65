"""A server in a process of its own, without Ray: `python -m tests.serve.lone_server PORT SETTING...`."""

import sys

import uvicorn

from uniface_ray.core.compose import compose
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.serve.app import build_app
from uniface_ray.serve.catalogue import build_loop


def main(port: str, *settings: str) -> None:
    config = compose("serve", list(settings), ServeConfig)
    loop = build_loop(config, config.model, "cpu", "float32", 1)
    app = build_app(config, {config.model.name: loop})
    if app.state.batches:
        app.state.batches._start = lambda batch, attempt: None  # no work on batches
    uvicorn.run(app, port=int(port), log_level="warning", timeout_graceful_shutdown=2)
    loop.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
