"""What the nodes of a cluster are asked before a run begins."""

from pathlib import Path

import pytest
import ray

from uniface_ray import nodes
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.nodes import check_nodes, local_paths

MODULE = "uniface_ray.batch.pipeline"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow machines are not told of."""
    monkeypatch.setattr(nodes, "_NOTE_S", 300.0)


def silent(text: str) -> None:
    raise AssertionError(f"nothing is to be told, but: {text}")


def test_only_local_paths_are_looked_for(tmp_path: Path) -> None:
    here = str(tmp_path)
    given = {"source.path": "package://portraits", "sink.path": f"{here}/out", "model.path": here}
    assert local_paths(given, StorageConfig()) == {"sink.path": f"{here}/out", "model.path": here}
    given = {"source.path": here, "sink.path": "s3://b/out", "model.path": "hf://owner/name"}
    assert local_paths(given, StorageConfig()) == {"source.path": here}
    assert local_paths({"source.path": ""}, StorageConfig()) == {}


@pytest.mark.usefixtures("one_ray")
def test_nodes_are_asked_for_paths_and_for_the_package(tmp_path: Path) -> None:
    check_nodes(MODULE, {"sink.path": str(tmp_path)}, silent)
    address = ray.nodes()[0]["NodeManagerAddress"]
    with pytest.raises(UserError, match=f"node {address} of the cluster has no sink.path="):
        check_nodes(MODULE, {"sink.path": f"{tmp_path}/out", "model.path": str(tmp_path)}, silent)
    with pytest.raises(UserError, match=r"cannot import uniface_ray, .*No module named 'uniface_ray_is_not_here'"):
        check_nodes("uniface_ray_is_not_here", {}, silent)


@pytest.mark.usefixtures("one_ray")
def test_a_node_that_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def looker() -> object:
        def look(module: str, paths: object) -> None:
            import time

            time.sleep(5)

        return look

    monkeypatch.setattr(nodes, "_looker", looker)
    said: list[str] = []
    with pytest.raises(UserError, match=f"node {ray.nodes()[0]['NodeManagerAddress']} of the cluster has not answered"):
        check_nodes(MODULE, {}, said.append, timeout_s=0.0)
    assert said == ["waiting for 1 of 1 nodes, which may be installing what the run needs"]


@pytest.mark.usefixtures("one_ray")
def test_an_error_of_another_kind_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def looker() -> object:
        def look(module: str, paths: object) -> None:
            raise RuntimeError(f"{module} is not at fault")

        return look

    monkeypatch.setattr(nodes, "_looker", looker)
    with pytest.raises(RuntimeError, match="is not at fault"):
        check_nodes(MODULE, {}, silent)
