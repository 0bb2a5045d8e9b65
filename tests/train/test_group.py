"""Room for workers, and what driver and workers tell each other."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.train.tokens import settings
from uniface_ray.core.errors import UserError
from uniface_ray.core.interrupts import Asked, InterruptedRunError
from uniface_ray.core.lease import taken
from uniface_ray.core.storage import Folder
from uniface_ray.train.group import check_room, open_post, train_on_ray
from uniface_ray.train.worker import Post


@pytest.mark.parametrize(
    ("words", "device", "room"),
    [
        (["parallel.workers=5"], "cpu", 5),
        (["parallel.workers=[5,9]"], "cpu", 5),
        (["parallel.workers=6"], "cpu", 5),
        (["parallel.workers=16", "parallel.num_cpus=0.3"], "cpu", 16),
        (["parallel.workers=2", "parallel.num_cpus=3"], "cpu", 1),
        (["parallel.workers=2"], "cuda", 1),
        (["parallel.workers=3", "parallel.num_gpus=0.5"], "cuda", 2),
    ],
)
def test_workers_for_which_there_is_no_room_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], device: str, room: int
) -> None:
    up = [{"CPU": 3.0, "GPU": 1.0}, {"CPU": 2.0}]
    nodes = [{"Alive": True, "Resources": one} for one in up] + [{"Alive": False, "Resources": {"CPU": 99.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    config = settings(tmp_path, tmp_path, tmp_path, *words)
    notes: list[str] = []
    if config.parallel.workers[0] <= room:
        return check_room(config, device, grows=False, note=notes.append)
    with pytest.raises(UserError, match=rf"parallel.workers is \d, each of .* has room for {room}: use fewer"):
        check_room(config, device, grows=False, note=notes.append)
    assert not notes
    check_room(config, device, grows=True, note=notes.append)
    assert f"has room for {room}: it waits until the cluster has grown" in notes[0]


def test_who_asks_workers_to_stop_hears_whether_there_are_any() -> None:
    post = Post()
    assert not post.stop()
    assert post.is_stopping()
    assert post.stop()


@pytest.fixture
def nodes() -> Iterator[int]:
    """A Ray of a head and some more nodes; their number."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield 2
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_a_run_without_room_ends_on_the_first_signal_and_its_post_is_beside_the_driver(
    nodes: int, tokens: Path, toy: Path, tmp_path: Path
) -> None:
    def node(_: Any) -> Any:
        return ray.get_runtime_context().get_node_id()

    posts = [open_post() for _ in range(4 * nodes)]
    where = ray.get([post.__ray_call__.remote(node) for post in posts])
    assert {*where} == {ray.get_runtime_context().get_node_id()}

    config = settings(tokens, toy, tmp_path, "parallel.workers=9")
    asked = Asked(signal.SIGTERM, patient=True)
    with taken(Folder(str(tmp_path), config.storage), print) as lease, pytest.raises(InterruptedRunError) as raised:
        train_on_ray(config, "cpu", "float32", lease.sink, asked, print)
    assert raised.value.exit_code == 143
