"""The manifests of the endpoint: what `serve deploy` and KubeRay are given."""

import os
import time
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.jobs.test_submit import free_port
from tests.serve.test_chat import ask
from tests.test_project import _pins, _project
from tests.tiny import save_random_model
from uniface_ray.core.compose import compose
from uniface_ray.core.serve_config import ServeConfig

ROOT = Path(__file__).parents[2]


def _application(config: dict[str, Any]) -> dict[str, Any]:
    (one,) = config["applications"]
    assert isinstance(one, dict)
    return one


def _composed(args: dict[str, Any]) -> ServeConfig:
    from uniface_ray.serve.deployment import _typed

    return compose("serve", [f"{name}={_typed(value)}" for name, value in args.items()], ServeConfig)


def test_the_arguments_are_settings_of_the_command() -> None:
    config = yaml.safe_load((ROOT / "jobs/serve.yaml").read_text())
    application = _application(config)
    settings = _composed(application["args"])
    assert settings.engine.replicas == (1, 4)
    assert config["http_options"]["request_timeout_s"] > settings.serve.timeout_s + settings.guard.body_timeout_s
    (model,) = application["deployments"]
    assert model["name"] == f"model-{settings.model.name}"
    assert model["user_config"]["path"] == application["args"]["model.path"]


def test_the_kuberay_service_is_the_same_on_a_cluster_of_its_own() -> None:
    manifest = yaml.safe_load((ROOT / "jobs/rayservice.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    application = _application(config)
    environment = application.pop("runtime_env")
    plain = yaml.safe_load((ROOT / "jobs/serve.yaml").read_text())
    of_plain = _application(plain)
    del of_plain["runtime_env"]
    assert application["args"].pop("engine.device") == "cuda"
    assert config == plain

    wanted = {canonicalize_name(Requirement(text).name) for text in _project()["dependencies"]} - {"ray"}
    given = [Requirement(text) for text in environment["pip"]]
    assert {canonicalize_name(pin.name) for pin in given} == wanted
    assert all(pin == _pins()[canonicalize_name(pin.name)] for pin in given)

    job = yaml.safe_load((ROOT / "jobs/rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    cluster = manifest["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == job["rayVersion"]
    assert cluster["workerGroupSpecs"][0]["maxReplicas"] == _composed(application["args"]).engine.replicas[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    config = yaml.safe_load((ROOT / "jobs/serve.yaml").read_text())
    application = _application(config)
    port, folder = free_port(), str(save_random_model(tmp_path / "model"))
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    few = {"model.path": folder, "engine.replicas": 1, "engine.threads": 1, "guard.open": True}
    application["args"] |= few
    application["deployments"][0]["user_config"]["path"] = folder
    application["runtime_env"] = {"env_vars": {"PYTHONPATH": os.fspath(ROOT)}}
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        schema = ServeDeploySchema.model_validate(config)
        serve.start(proxy_location=schema.proxy_location, http_options=schema.http_options.model_dump())
        _get_global_client().deploy_apps(schema)
        until = time.monotonic() + 400
        while (state := serve.status().applications["uniface"]).status != "RUNNING":
            assert state.status in ("NOT_STARTED", "DEPLOYING"), state.message
            assert time.monotonic() < until
            time.sleep(0.5)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=120)
        assert ask(client, model="uniface-tiny", max_tokens=5).usage.completion_tokens == 5
    finally:
        serve.shutdown()
        ray.shutdown()
