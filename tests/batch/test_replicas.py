"""How many replicas a job on this machine takes, where the settings leave it open."""

import pytest

from uniface_ray.batch.job import Job
from uniface_ray.batch.preflight import check
from uniface_ray.batch.replicas import with_replicas
from uniface_ray.core.compose import compose
from uniface_ray.core.fenced import Fenced

GIB = 2**30


def bounds(rows: int, *words: str, device: str = "cpu") -> tuple[int, int]:
    config = compose("caption", ["source=demo", "sink.path=out", *words])
    checked = check(config)
    sink = Fenced(config.sink.path, config.storage, 0)
    job = Job(config, checked.source, checked.kept, checked.model.image_size, device, "float32", sink)
    return with_replicas(job, rows).config.engine.bounds


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: 16 * GIB)
    monkeypatch.setattr("uniface_ray.batch.replicas.local_gpus", lambda: 2)


@pytest.mark.parametrize(
    ("rows", "words", "count"),
    [
        (20, [], 1),
        (600, [], 2),
        (10**6, [], 4),
        (10**6, ["cluster.num_cpus=5"], 3),
        (10**6, ["engine.replicas=2"], 2),
        (10**6, ["engine.kind=null"], 1),
    ],
)
def test_one_for_each_core_that_has_rows_to_do(rows: int, words: list[str], count: int) -> None:
    assert bounds(rows, *words) == (count, count)


def test_each_needs_memory_for_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: 5 * GIB)
    assert bounds(10**6) == (2, 2)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: GIB)
    assert bounds(10**6) == (1, 1)
    monkeypatch.setattr("uniface_ray.batch.replicas.available_bytes", lambda: None)
    assert bounds(10**6) == (4, 4)


def test_each_has_its_gpus() -> None:
    assert bounds(10**6, device="cuda") == (2, 2)
    assert bounds(10**6, "engine.num_gpus=0.5", device="cuda") == (4, 4)


def test_what_is_set_stays() -> None:
    assert bounds(10**6, "engine.replicas=[1,8]") == (1, 8)
