"""Replicas that are lost, or cannot start: what a run bears, and how it ends."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from benchmarks.memory import descendants
from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.monitor import Monitor
from uniface_ray.batch.pipeline import Pipeline
from uniface_ray.cluster import Cluster
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UniFaceError
from uniface_ray.core.storage import Folder

ALONE = Cluster(local=True, ours=False, address="local", cpus=4, gpus=0)


def test_losses_count_until_a_chunk_is_answered() -> None:
    monitor = Monitor()
    for replica in ("stays", "comes and goes"):
        monitor.begins(replica)
    assert monitor.lost() == 0
    for losses in (1, 2):
        monitor.begins("comes and goes")
        assert monitor.lost() == losses
    monitor.answered("stays", 7)
    assert monitor.lost() == 0
    monitor.begins("comes and goes")
    monitor.begins("stays")
    assert monitor.lost() == 0


def test_tries_of_a_chunk_count_until_it_is_answered() -> None:
    monitor = Monitor()
    assert monitor.tried() == (0, 0)
    for _ in range(3):
        monitor.begin("one", 7)
    monitor.begin("another", 8)
    assert monitor.tried() == (7, 3)
    monitor.answered("another", 7)
    assert monitor.tried() == (8, 1)


@pytest.fixture
def pipeline(one_ray: None, tmp_path: Path, portraits: list[bytes]) -> Iterator[Pipeline]:
    run = PlainRun(faces(tmp_path / "faces", portraits[:1]), Folder(str(tmp_path / "out"), StorageConfig()))
    with Pipeline(run.job, run.plan.index, ALONE) as one:
        yield one


def test_a_replica_that_is_lost_again_and_again_stops_the_run(pipeline: Pipeline) -> None:
    for _ in range(4):
        pipeline.monitor.begins.remote("it")
        assert pipeline.snapshot() == (0, 0, 0)
    pipeline.monitor.begins.remote("it")
    with pytest.raises(StoppedError, match="was lost 4 times, and no chunk was answered in between") as caught:
        pipeline.snapshot()
    assert caught.value.exit_code == 3


def test_a_chunk_that_takes_its_replicas_along_stops_the_run(pipeline: Pipeline) -> None:
    """However often others answer in between."""
    for chunk in range(10, 20):
        pipeline.monitor.begin.remote("it", 5)
        pipeline.monitor.answered.remote("it", chunk)
    pipeline.snapshot()
    pipeline.monitor.begin.remote("it", 5)
    with pytest.raises(StoppedError, match="chunk 5 was begun 11 times, and its replica was lost each time"):
        pipeline.snapshot()


def test_what_ray_loses_stops_the_run_and_what_cannot_start_ends_it(pipeline: Pipeline) -> None:
    lost = pipeline._told(OutOfMemoryError("the node runs low on memory\nand more"))
    assert isinstance(lost, StoppedError)
    assert "Ray lost a part of the run (OutOfMemoryError: the node runs low on memory); the same command" in str(lost)
    died = ActorDiedError()
    died._actor_init_failed = True
    assert isinstance(pipeline._told(died), StoppedError)
    pipeline.monitor.failed.remote("no weights there")
    ended = pipeline._told(died)
    assert (str(ended), ended.exit_code) == ("no weights there", 1)


@pytest.mark.slow
def test_replicas_that_cannot_start_end_the_run_with_the_reason(
    one_ray: None, tmp_path: Path, portraits: list[bytes], random_model: Path
) -> None:
    model = shutil.copytree(random_model, tmp_path / "model")
    source = faces(tmp_path / "faces", portraits[:1])
    run = PlainRun(source, Folder(str(tmp_path / "out"), StorageConfig()), f"model.path={model}")
    shutil.rmtree(model)
    with (
        Pipeline(run.job, run.plan.index, ALONE) as pipeline,
        pytest.raises(UniFaceError, match="the process of the engine stage cannot start") as caught,
    ):
        list(pipeline.run([0]))
    assert caught.value.exit_code == 1


def replicas() -> list[int]:
    """Ray's processes that hold replicas."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):  # gone by now
            if b"_ReplicaActor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def prompts(folder: Path, count: int) -> PlainRun:
    """Text alone, a row a chunk."""
    (folder / "prompts.jsonl").write_text('{"prompt": "a face"}\n' * count)
    words = ["run.chunk_rows=1", "engine.kind=null", "engine.batch_size=1"]
    return PlainRun(folder / "prompts.jsonl", Folder(str(folder / "out"), StorageConfig()), *words, command="generate")


@pytest.mark.slow
def test_rows_of_text_alone_pass_no_decoder(one_ray: None, tmp_path: Path) -> None:
    run = prompts(tmp_path, 2)
    with Pipeline(run.job, run.plan.index, ALONE) as pipeline:
        markers = list(pipeline.run([0, 1]))
    assert [sorted(marker.seconds) for marker in markers] == [["engine", "read"]] * 2


@pytest.mark.slow
def test_a_run_bears_any_number_of_losses_between_which_it_goes_on(one_ray: None, tmp_path: Path) -> None:
    run = prompts(tmp_path, 250)
    killed, markers = set[int](), 0
    with Pipeline(run.job, run.plan.index, ALONE) as pipeline:
        for _ in pipeline.run(range(run.plan.chunks)):
            markers += 1
            pipeline.snapshot()
            if markers % 50 == 0 and (up := replicas()):
                os.kill(up[0], signal.SIGKILL)
                killed.add(up[0])
    assert markers == run.plan.chunks == 250
    assert len(killed) > 3
