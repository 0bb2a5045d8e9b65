"""A run's numbers where Prometheus finds them: at the metrics port of the node."""

import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from tests.batch.conftest import Caption
from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.stages import commit_chunk
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.metrics import Recorder
from uniface_ray.core.storage import Folder


def test_a_committed_chunk_is_counted(tmp_path: Path, portraits: list[bytes]) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits, bad=(1, 2)), Folder(str(tmp_path / "out"), StorageConfig()))
    recorder = Recorder()
    commit_chunk(run.job, run.plan.index, run.answered(0), recorder)
    values = recorder.values
    assert values[("uniface_rows_total", "ok")] == 3
    assert values[("uniface_rows_total", "unsupported_format")] == 2
    assert values[("uniface_tokens_total",)] == 3 * 3
    assert values[("uniface_images_total",)] == 3
    assert values[("uniface_read_bytes_total",)] == sum(map(len, portraits[:1] + portraits[3:5])) + 2 * len(b"no image")
    assert values[("uniface_stage_seconds_total", "engine")] > 0


def scraped() -> dict[str, float]:
    """The uniface numbers that this node's port serves now, added up over processes."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for name, labels, value in re.findall(r"^ray_(uniface_\w+)\{(.*?)\} (\S+)$", text, re.MULTILINE):
        tag = re.search(r'(?:outcome|stage)="(\w+)"', labels)
        key = f"{name}:{tag[1]}" if tag else name
        found[key] = found.get(key, 0.0) + float(value)
    return found


@pytest.mark.slow
def test_prometheus_finds_them(caption: Caption, tmp_path: Path, portraits: list[bytes]) -> None:
    caption(f"source.path={faces(tmp_path / 'faces', portraits, bad=(1,))}", f"sink.path={tmp_path / 'out'}")
    # At least: other runs on this cluster are counted too, and a number may be there before that of the row next to it.
    wanted = {
        "uniface_rows_total:ok": 19,
        "uniface_rows_total:unsupported_format": 1,
        "uniface_tokens_total": 1,
        "uniface_stage_seconds_total:engine": 0.001,
        "uniface_replicas": 1,
    }
    deadline = time.monotonic() + 90  # workers report every ten seconds
    while missing := {name for name, least in wanted.items() if scraped().get(name, 0) < least}:
        assert time.monotonic() < deadline, f"after 90 seconds the port does not serve {missing}: {scraped()}"
        time.sleep(2)
