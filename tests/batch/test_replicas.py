"""How many replicas a job on this machine takes, where the settings leave it open."""

from pathlib import Path

import pytest

from uniface_ray.batch.job import Job
from uniface_ray.batch.needs import replica_threads
from uniface_ray.batch.preflight import check
from uniface_ray.batch.replicas import most_replicas, with_replicas
from uniface_ray.core.compose import compose
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.memory import available_bytes

GIB = 2**30
MANY = 10**6


def job(*words: str, device: str = "cpu") -> Job:
    config = compose("caption", ["source=demo", "sink.path=out", *words])
    checked = check(config)
    sink = Fenced(config.sink.path, config.storage, 0)
    return Job(config, checked.source, checked.kept, checked.model.image_size, device, "float32", sink)


def bounds(rows: int, *words: str, chunks: int = MANY, device: str = "cpu") -> tuple[int, int]:
    return with_replicas(job(*words, device=device), rows, chunks).config.engine.bounds


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("uniface_ray.cluster._connected", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: 16 * GIB)
    monkeypatch.setattr("uniface_ray.batch.replicas.local_gpus", lambda: 2)


@pytest.mark.parametrize(
    ("rows", "words", "count"),
    [
        (20, [], 1),
        (600, [], 2),
        (MANY, [], 4),
        (MANY, ["engine.replicas=2"], 2),
        (MANY, ["engine.kind=null"], 1),
        (MANY, ["engine.threads=2"], 2),
        (MANY, ["engine.num_cpus=4"], 1),
        (MANY, ["cluster.num_cpus=4"], 2),
    ],
)
def test_one_for_each_core_that_has_rows_to_do(rows: int, words: list[str], count: int) -> None:
    assert bounds(rows, *words) == (count, count)


def test_each_has_chunks_to_do() -> None:
    assert bounds(MANY, chunks=4) == (2, 2)
    assert bounds(MANY, chunks=1) == (1, 1)


def test_each_needs_memory_for_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: 6 * GIB)
    assert bounds(MANY) == (2, 2)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: GIB)
    assert bounds(MANY) == (1, 1)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: None)
    assert bounds(MANY) == (4, 4)


@pytest.mark.parametrize(("cores", "count", "threads"), [(6, 6, 1), (12, 6, 2), (64, 8, 8)])
def test_no_core_is_idle(cores: int, count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: None)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    found = with_replicas(job(), MANY, MANY).config
    assert found.engine.bounds == (count, count)
    assert replica_threads(found, local=True) == threads


def test_each_has_its_gpus() -> None:
    assert bounds(MANY, device="cuda") == (2, 2)
    assert bounds(MANY, "engine.num_gpus=0.5", device="cuda") == (4, 4)
    assert bounds(MANY, "engine.num_gpus=0.4", device="cuda") == (4, 4)
    assert bounds(MANY, "engine.num_gpus=2", device="cuda") == (1, 1)


def test_what_is_set_stays_and_a_cluster_is_not_guessed_at() -> None:
    assert bounds(MANY, "engine.replicas=[1,8]") == (1, 8)
    assert most_replicas(job("engine.replicas=[1,8]")) == 8
    assert most_replicas(job()) == 4
    assert bounds(MANY, "cluster.address=head:6379") == (1, 1)
    assert most_replicas(job("cluster.address=head:6379")) == 1


def test_memory_is_the_containers(tmp_path: Path) -> None:
    system = tmp_path / "meminfo"
    assert available_bytes(system, tmp_path) is None
    system.write_text("MemTotal: 9 kB\nMemAvailable: 8 kB\n")
    assert available_bytes(system, tmp_path) == 8192
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes(system, tmp_path) == 8192
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_bytes(system, tmp_path) == 4000
