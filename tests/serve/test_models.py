"""Which models there are, and whether they work."""

import shutil
from pathlib import Path

import httpx2
import openai
import pytest

from tests.serve.conftest import Configure, serving
from tests.serve.test_chat import ask
from uniface_ray.core.errors import UserError
from uniface_ray.serve.app import build_app
from uniface_ray.serve.catalogue import build_loop, catalogue
from uniface_ray.serve.loop import EngineLoop


def test_models_are_listed_and_looked_up(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("random", "model", "uniface_ray")
    assert client.models.retrieve("random") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_alive_and_ready(address: str, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert httpx2.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{address}/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(loop, "_closing", True)
    late = httpx2.get(f"{address}/readyz")
    assert (late.status_code, late.json()["error"]["message"]) == (503, "not ready: random")
    assert httpx2.get(f"{address}/healthz").status_code == 200


def test_a_server_has_several_models(configure: Configure) -> None:
    config = configure(f"serve.models=[other={configure().model.path},third={configure().model.path}]")
    assert [entry.model.name for entry in catalogue(config)] == ["random", "other", "third"]


def test_an_adapter_is_a_model_by_its_own_name(configure: Configure, adapter: Path, loop: EngineLoop) -> None:
    config = configure(f"serve.models=[tuned={adapter}]")
    base, tuned = catalogue(config)
    assert base.checked.fingerprint != tuned.checked.fingerprint
    made = build_loop(config, tuned.model, "cpu", "float32")
    with serving(build_app(config, {"random": loop, "tuned": made})) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        one, other = (ask(client, model=name).choices[0].message.content for name in ("random", "tuned"))
    made.close()
    assert one != other


def test_an_adapter_that_is_not_whole_is_told(configure: Configure, adapter: Path, tmp_path: Path) -> None:
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    with pytest.raises(UserError, match=r"no adapter_model.safetensors"):
        catalogue(configure(f"serve.models=[tuned={tmp_path}]"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("serve.models=[other]", "serve.models.*must be name=path"),
        ("serve.models=[random=/x]", "a name of its own"),
        ("serve.models=[other=/no/such/folder]", "/no/such/folder"),
        ("engine.kind=openai", "engine.kind is openai"),
        ("serve.port=0", "serve.port=0"),
    ],
)
def test_mistakes_are_told_before_anything_starts(configure: Configure, override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        catalogue(configure(override))
