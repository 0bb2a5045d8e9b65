"""The endpoint on a cluster, and its batches as jobs of the same cluster."""

from pathlib import Path

import pytest

from tests.jobs.test_submit import running_head
from tests.serve.batch_client import begin, lines_of, wait
from tests.serve.test_batch_lines import chat_body, line
from tests.serve.test_ray_serve import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_cluster_serves_and_runs_batches(
    folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good, wrong = chat_body(model="random", max_tokens=8), chat_body(n=2)
    with running_head(tmp_path_factory.mktemp("ray")) as head:  # sockets have short names
        joins = [f"cluster.address={head.address}", f"files.path={tmp_path}/files", f"files.jobs={head.jobs}"]
        running = Server(folder, tmp_path / "out.txt", *joins, environment=head.environment)
        try:
            running.said("Ctrl-C")
            number = begin(running.client, line("good", good), line("wrong", wrong)).id
            online = running.client.chat.completions.create(**good)
            done = wait(running.client, number, "completed")
            (answer,) = lines_of(running.client, done.output_file_id).values()
            assert answer["response"]["body"]["choices"][0]["message"]["content"] == online.choices[0].message.content
            assert [*lines_of(running.client, done.error_file_id)] == ["wrong"]
        finally:
            code = running.end()
        assert code == 143, running.out.read_text()
        assert "Traceback" not in running.out.read_text()
        assert [path for path in (tmp_path / "files" / "open").rglob("*") if path.is_file()] == []
