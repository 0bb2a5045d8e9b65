"""Reading a chunk of a source that refuses some of it, or all."""

from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch import stages
from uniface_ray.batch.stages import commit_chunk, read_chunk
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.metrics import Recorder
from uniface_ray.core.records import Reject, RejectKind, Row
from uniface_ray.core.storage import Folder
from uniface_ray.data.slices import Slice, Source


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


class Torn:
    """A source of which a read gives no more than `whole` rows now and then, as when an answer is cut short."""

    def __init__(self, source: Source, whole: Iterable[int]) -> None:
        self.source, self.whole = source, iter(whole)

    def read(self, slices: Sequence[Slice], only: Set[int] | None) -> Iterator[Row]:
        left = next(self.whole)
        for row in self.source.read(slices, only):
            left -= 1
            yield row if left >= 0 else Row(row.ref, reject=Reject(RejectKind.FETCH_FAILED, "cut", "read"))


def test_what_did_not_come_whole_is_read_again(run: PlainRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_WAITS_S", (0.0, 0.0))
    slices = run.plan.index.slices(1)
    torn: Any = Torn(run.job.source, [2, 2, 9])
    rows = stages._read(torn, slices, None)
    assert not any(row.reject for row in rows)
    assert [row.ref for row in rows] == [row.ref for row in run.job.source.read(slices)]
    torn = Torn(run.job.source, [2, 0, 0])
    assert [row.reject is None for row in stages._read(torn, slices, None)] == [True, True, False, False, False]


def test_a_chunk_that_is_committed_twice_is_counted_once(run: PlainRun) -> None:
    """Ray repeats a task whose worker is lost."""
    answered, metrics = pa.py_buffer(run.answered(1)), Recorder()
    markers = [commit_chunk(run.job, run.plan.index, answered, metrics) for _ in range(2)]
    assert markers[0] == markers[1]
    assert metrics.values["uniface_rows_total", "ok"] == 5
