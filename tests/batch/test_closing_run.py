"""The end of a run: what is written first, and what its page reads of the source."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.batch.conftest import rows_of
from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch import reporting
from uniface_ray.batch.follow import Course
from uniface_ray.batch.reporting import close_run
from uniface_ray.batch.thumbnails import Thumbnails
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.progress import RunState
from uniface_ray.core.records import Row
from uniface_ray.core.storage import Folder
from uniface_ray.core.view import View
from uniface_ray.data.slices import Slice, Source


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


class Watched:
    """A source that notes which slices are read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.wanted = source.wanted
        self.reads: list[Sequence[Slice]] = []

    def read(self, slices: Sequence[Slice]) -> Iterator[Row]:
        self.reads.append(slices)
        return self._source.read(slices)


def watch(run: PlainRun) -> Watched:
    watched = Watched(run.job.source)
    object.__setattr__(run.job, "source", watched)
    return watched


def table(folder: Path, portraits: Sequence[bytes], kind: str) -> Path:
    """Twenty faces in a table, or named by one."""
    folder.mkdir()
    faces(folder / "pictures", portraits)
    if kind == "inside":
        pq.write_table(pa.table({"image": portraits[:20]}), folder / "faces.parquet")
        return folder / "faces.parquet"
    lines = [json.dumps({"uri": f"pictures/{number:02d}.jpg"}) for number in range(20)]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return folder / "list.jsonl"


@pytest.mark.parametrize(("kind", "reads"), [("inside", 4), ("named", 0)])
def test_pictures_of_a_chunk_are_read_together_and_named_ones_alone(
    tmp_path: Path, sink: Folder, portraits: list[bytes], kind: str, reads: int
) -> None:
    run = PlainRun(table(tmp_path / "t", portraits, kind), sink).finish()
    watched = watch(run)
    assert run.page().count("<img") == 20
    assert sum(bool(slices) for slices in watched.reads) == reads


def test_no_time_no_pictures(tmp_path: Path, sink: Folder, portraits: list[bytes]) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits[:5]), sink).finish()
    rows = [row | {"chunk": 0} for row in rows_of(sink, "ok")]
    assert all(map(Thumbnails(run.job, run.plan).source, rows))
    assert not any(map(Thumbnails(run.job, run.plan, budget_s=0.0).source, rows))


@pytest.mark.parametrize("state", ["interrupted", "stopped", "failed"])
def test_a_run_that_did_not_end_well_has_its_manifest_before_its_page_and_reads_no_pictures(
    tmp_path: Path, sink: Folder, portraits: list[bytes], state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits[:5]), sink)
    run.finish("running")
    watched = watch(run)
    assert "<img" not in run.page(state)
    assert not watched.reads

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting, "render", killed)
    with pytest.raises(KeyboardInterrupt):
        close_run(run.job, run.plan, Course(run.tally), run.manifest, state, View(Console(quiet=True), 1.0))
    assert json.loads(sink.read("manifest.json"))["state"] == state
    assert json.loads(sink.read("progress.json"))["state"] == state
