"""A cluster of several nodes, one of which is lost in the middle of a run."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.batch.conftest import rows_of
from tests.pictures import variations
from tests.tiny import save_random_model
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import row_id_of
from uniface_ray.core.storage import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COUNT = 200


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that takes no work, and two nodes that each have room for all of it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for name in ("kept", "lost"):
            cluster.add_node(num_cpus=4, resources={name: 1})
        yield cluster
    finally:
        cluster.shutdown()


def test_a_lost_node_costs_no_row(cluster: Cluster, portraits: list[bytes], tmp_path: Path) -> None:
    source, sink = Folder(str(tmp_path / "faces"), StorageConfig()), Folder(str(tmp_path / "out"), StorageConfig())
    names = [f"{number:03d}.jpg" for number in range(COUNT)]
    for name, data in zip(names, variations(portraits, COUNT), strict=True):
        source.write(name, data)
    words = [
        f"source.path={source.uri}",
        f"sink.path={sink.uri}",
        f"model.path={save_random_model(tmp_path / 'model')}",
        f"cluster.address={cluster.address}",
        "engine.replicas=2",
        "task.max_new_tokens=6",
        "run.chunk_rows=4",
        "run.progress_every_s=0.5",
    ]
    run = subprocess.Popen(
        [sys.executable, "-m", "uniface_ray.cli", "caption", *words],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 200
    while len(sink.list("checkpoint")) < 5:
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [lost] = [node for node in cluster.worker_nodes if "lost" in node.get_resource_and_label_spec().resources]
    cluster.remove_node(lost, allow_graceful=False)
    assert len(sink.list("checkpoint")) < COUNT / 4

    out, _ = run.communicate(timeout=400)
    assert run.returncode == 0, out
    assert Counter(row["row_id"] for row in rows_of(sink, "ok")) == Counter(row_id_of(name, 0) for name in names)
    assert not sink.list("data/status=rejected", True)
