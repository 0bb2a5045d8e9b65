"""Newer weights in the place of older ones, and the end of a door; no Ray."""

import asyncio
import shutil
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from tests.serve.conftest import Configure
from tests.serve.test_ray_serve import other_weights
from uniface_ray.core.errors import UserError
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.serve.catalogue import build_loop
from uniface_ray.serve.draining import Draining, Presence, drain
from uniface_ray.serve.models import outcome_of
from uniface_ray.serve.replica import Replica

PIXELS = np.zeros((3, 32, 32), np.uint8)


@pytest.fixture
def weights(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def replica(configure: Configure, weights: Path) -> Replica:
    config = configure(f"model.path={weights}")
    return Replica(config, config.model, lambda model: build_loop(config, model, "cpu", "float32"))


def test_newer_weights_are_for_requests_that_come_then(configure: Configure, weights: Path) -> None:
    async def work() -> tuple[str, str, str, str]:
        made = replica(configure, weights)
        before = made.fingerprint
        assert await made.reload() == before  # nothing is new
        old = await outcome_of(made, Ask(PIXELS, "who?", 100))
        under_way = asyncio.create_task(outcome_of(made, Ask(PIXELS, "who?", 100)))
        while not made.loop.load["answers"]:
            await asyncio.sleep(0)
        other_weights(weights)
        first = made.loop
        assert await made.reload() != before
        new = await outcome_of(made, Ask(PIXELS, "who?", 100))
        ended = await under_way
        while first._thread.is_alive():
            await asyncio.sleep(0.01)
        made.check()
        made.loop.close()
        assert all(isinstance(one, Text) for one in (old, ended, new))
        return old.text, ended.text, new.text, before  # type: ignore[union-attr]

    old, ended, new, _ = asyncio.run(work())
    assert old == ended != new


def test_newer_weights_are_taken_where_no_sample_shows_them(
    configure: Configure, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniface_ray.engine.weights._SAMPLE_BYTES", 16)

    async def work() -> None:
        made = replica(configure, weights)
        first = made.loop
        (file,) = weights.glob("*.safetensors")
        data = bytearray(file.read_bytes())
        data[len(data) * 3 // 4] ^= 1
        file.write_bytes(data)
        assert await made.reload() == made.fingerprint
        assert made.loop is not first
        while first._thread.is_alive():
            await asyncio.sleep(0.01)
        made.loop.close()

    asyncio.run(work())


def test_weights_that_cannot_be_used_change_nothing(configure: Configure, weights: Path) -> None:
    async def work() -> None:
        made = replica(configure, weights)
        (file,) = weights.glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(UserError, match="safetensors"):
            await made.reload()
        assert isinstance(await outcome_of(made, Ask(PIXELS, "who?", 3)), Text)
        made.loop.close()

    asyncio.run(work())


def test_a_closed_door_lets_out_and_nobody_in() -> None:
    app, going = FastAPI(), asyncio.Event()
    app.state.presence = Presence(patience_s=30)
    app.add_middleware(Draining, state=app.state.presence)

    @app.get("/slow")
    async def slow() -> str:
        await going.wait()
        return "done"

    @app.get("/healthz")
    async def alive() -> str:
        return "ok"

    async def visit() -> None:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            inside = asyncio.create_task(client.get("/slow"))
            while not app.state.presence.inside:
                await asyncio.sleep(0)
            draining = asyncio.create_task(drain(app))
            await asyncio.sleep(0)
            late = await client.get("/slow")
            assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
            assert late.headers["Retry-After"]
            assert (await client.get("/healthz")).status_code == 200
            assert not draining.done()
            going.set()
            assert (await inside).json() == "done"
            assert await draining == 0

    asyncio.run(visit())


def test_a_door_that_is_kept_open_is_shut_at_last() -> None:
    app = FastAPI()
    app.state.presence = Presence(patience_s=0.1)
    app.state.presence.inside = 2
    assert asyncio.run(drain(app)) == 2
