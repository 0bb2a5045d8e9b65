"""The real decoder and a real replica in child processes: the same answers, whatever becomes of the processes."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.chunk import Chunk, pack_rows, unpack_answers, unpack_rows
from uniface_ray.batch.decoding import decode_chunk
from uniface_ray.batch.isolation import supervised_decoder, supervised_replica
from uniface_ray.batch.stages import read_chunk
from uniface_ray.batch.supervisor import Supervisor
from uniface_ray.batch.work import replica
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.processes import process_start
from uniface_ray.core.records import Row, RowRef
from uniface_ray.core.storage import Folder
from uniface_ray.tasks.registry import build_task


@pytest.fixture
def run(tmp_path: Path, portraits: list[bytes], random_model: Path) -> PlainRun:
    source = faces(tmp_path / "faces", portraits[:5], bad=[3])
    sink = Folder(str(tmp_path / "out"), StorageConfig())
    return PlainRun(
        source, sink, f"model.path={random_model}", "task.max_new_tokens=4", "engine.threads=1", "engine.timeout_s=30"
    )


def kill(supervisor: Supervisor) -> None:
    os.kill(supervisor.start().pid, signal.SIGKILL)


@pytest.mark.slow
def test_decoding_and_answering_go_on_when_their_processes_are_killed(run: PlainRun) -> None:
    read = pa.py_buffer(read_chunk(run.job, run.plan.index, 0))
    here = decode_chunk(run.job, read)
    decoder, answerer = supervised_decoder(run.job), supervised_replica(run.job, 1)
    try:
        for _ in range(2):
            decoded = decoder.answer(read)
            rows, expected = unpack_rows(decoded, 32).rows, unpack_rows(here, 32).rows
            assert [row.reject for row in rows] == [row.reject for row in expected]
            assert all((a.pixels == b.pixels).all() for a, b in zip(rows, expected, strict=True) if not a.reject)
            answers = unpack_answers(answerer.answer(pa.py_buffer(decoded)), build_task(run.config))
            assert (answers.ok.num_rows, answers.rejected.num_rows) == (4, 1)
            assert answers.amounts["images"] == 4
            kill(decoder)
            kill(answerer)
        alone = replica(run.job, 1)(here, lambda: None)
        assert unpack_answers(alone, build_task(run.config)).ok.equals(answers.ok)
    finally:
        decoder.close()
        answerer.close()


def test_a_worker_has_one_decoder_and_ends_it_for_that_of_another_run(run: PlainRun) -> None:
    decoder = supervised_decoder(run.job)
    assert supervised_decoder(run.job) is decoder
    assert decoder.idle_s
    pid = decoder.start().pid
    supervised_decoder(replace(run.job, image_size=64))
    assert not process_start(pid)


def test_a_replica_has_as_many_chunks_at_a_time_as_the_job_gives_it(
    run: PlainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for each other in its process."""
    monkeypatch.setattr("uniface_ray.batch.isolation._REPLICA", "tests.odd_worker:odd_replica")
    assert run.job.calls > 1
    rows = [Row(RowRef(0, f"meet {tmp_path / 'place'} {run.job.calls}"))]
    payload = pack_rows(Chunk(0, rows), run.job.kept, run.job.source.wanted.schema)
    answerer = supervised_replica(run.job, None)
    try:
        with ThreadPoolExecutor(run.job.calls) as pool:
            answers = list(pool.map(answerer.answer, [payload] * run.job.calls))
    finally:
        answerer.close()
    assert not any(row.reject for answer in answers for row in unpack_rows(answer, 32).rows)


def test_weights_that_cannot_be_read_are_told_at_once(run: PlainRun, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    model = run.config.model.model_copy(update={"path": str(tmp_path / "gone")})
    job = replace(run.job, config=run.config.model_copy(update={"model": model}))
    with pytest.raises(UniFaceError, match="the process of the engine stage cannot start"):
        supervised_replica(job, 1)
