"""A running server: in this process, over an engine in this process, on a port of this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import peft
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from tests.jobs.test_submit import free_port
from tests.tiny import save_random_model
from uniface_ray.core.compose import compose
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.serve.app import build_app
from uniface_ray.serve.catalogue import build_loop
from uniface_ray.serve.loop import EngineLoop

Configure = Callable[..., ServeConfig]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="session")
def configure(folder: Path) -> Configure:
    """Settings of `uniface serve` with a small random model."""

    def call(*overrides: str) -> ServeConfig:
        few = ["model.name=random", f"model.path={folder}", "engine.batch_size=8", "serve.max_tokens=12"]
        few.append("guard.access_log=false")
        return compose("serve", [*few, *overrides], ServeConfig)

    return call


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of `app`, while it is served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with random weights."""
    model = UniFaceForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    made = tmp_path_factory.mktemp("adapter")
    peft.get_peft_model(model, settings).save_pretrained(made)
    return made


@pytest.fixture(scope="session")
def loop(configure: Configure) -> Iterator[EngineLoop]:
    config = configure()
    made = build_loop(config, config.model, "cpu", "float32")
    yield made
    made.close()


@pytest.fixture(scope="session")
def address(configure: Configure, loop: EngineLoop) -> Iterator[str]:
    with serving(build_app(configure(), {"random": loop})) as url:
        yield url


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
