"""Reading a chunk of a source that refuses some of it, or all."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.stages import read_chunk
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.storage import Folder


def refuse(source: Path, numbers: Iterable[int]) -> None:
    """Links to themselves: nobody can read them, root neither."""
    for number in numbers:
        path = source / f"{number:02d}.jpg"
        path.unlink()
        path.symlink_to(path)


@pytest.fixture
def source(tmp_path: Path, portraits: list[bytes]) -> Path:
    return faces(tmp_path / "faces", portraits)


@pytest.fixture
def run(source: Path, tmp_path: Path) -> PlainRun:
    """Twenty rows in four chunks."""
    return PlainRun(source, Folder(str(tmp_path / "out"), StorageConfig()))


def test_a_chunk_that_is_refused_costs_its_rows_where_others_can_be_read(run: PlainRun, source: Path) -> None:
    refuse(source, range(5, 10))
    run.finish()
    assert run.tally.counts() == {"input": 20, "ok": 15, "rejected": 5, "pending": 0, "rows_out": 15}
    assert run.tally.rejects_by_kind == {"fetch_failed": 5}


def test_a_source_that_refuses_everything_stops_the_run(run: PlainRun, source: Path) -> None:
    refuse(source, range(20))
    with pytest.raises(StoppedError, match="gives nothing any more"):
        read_chunk(run.job, run.plan.index, 2)


def test_a_file_that_is_gone_says_that_the_storage_answers(run: PlainRun, source: Path) -> None:
    refuse(source, range(20))
    (source / "00.jpg").unlink()
    read_chunk(run.job, run.plan.index, 2)
