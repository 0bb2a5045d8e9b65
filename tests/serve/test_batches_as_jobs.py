"""The endpoint on a cluster, and its batches as jobs of the same cluster."""

from pathlib import Path

import pytest

from tests.jobs.test_submit import running_head
from tests.serve.batch_client import check
from tests.serve.test_ray_serve import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_cluster_serves_and_runs_batches(
    folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_head(tmp_path_factory.mktemp("ray")) as head:
        joins = [f"cluster.address={head.address}", f"files.path={tmp_path}/files", f"files.jobs={head.jobs}"]
        running = Server(folder, tmp_path / "out.txt", *joins, "files.running=2", environment=head.environment)
        try:
            running.said("Ctrl-C")
            check(running.client, lambda number: None)
        finally:
            code = running.end()
        assert code == 143, running.out.read_text()
        assert "Traceback" not in running.out.read_text()
        assert [path for path in (tmp_path / "files" / "open").rglob("*") if path.is_file()] == []
