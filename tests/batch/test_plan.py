"""The plan of a source that grows, shrinks and is interrupted."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.batch.plain_run import PlainRun
from tests.batch.plain_run import faces as put_faces
from uniface_ray.batch import chunking
from uniface_ray.batch import plan as planning
from uniface_ray.batch.chunking import CHUNK_BYTES, chunked, limited
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.spreading import rows_of_a_chunk
from uniface_ray.batch.stages import read_chunk
from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.data.slices import Slice, Source
from uniface_ray.data.sources import open_source

STORAGE = StorageConfig()


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "sink"), STORAGE)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.jpg").write_bytes(b"x" * number)
    return folder


def source(folder: Path) -> Source:
    return open_source(SourceConfig(path=str(folder)), STORAGE, DecodeConfig())


def planned(plan: Plan) -> list[str]:
    chunks = range(plan.chunks)
    return [one.path for chunk in chunks for one in plan.index.slices(chunk)]


@pytest.fixture(autouse=True)
def two_chunks_a_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(planning, "CHUNKS_PER_FILE", 2)
    yield
    planning._file_slices.cache_clear()


def test_every_row_is_planned_once_and_found_again(faces: Path, sink: Folder) -> None:
    plan = Plan.load(sink)
    listing = plan.extend(source(faces), chunk_rows=3, limit=None)
    assert (plan.chunks, plan.rows, listing.added) == (4, 10, 10)
    assert planned(plan) == [f"{number}.jpg" for number in range(10)]
    assert planned(Plan.load(sink)) == planned(plan)
    assert Plan.load(sink).fingerprint == plan.fingerprint


def test_new_files_become_new_chunks_and_old_numbers_stay(faces: Path, sink: Folder) -> None:
    plan = Plan.load(sink)
    plan.extend(source(faces), chunk_rows=3, limit=None)
    before = planned(plan)
    (faces / "00.jpg").write_bytes(b"new, and first in the listing")
    (faces / "3.jpg").unlink()
    (faces / "4.jpg").write_bytes(b"of another size")
    again = Plan.load(sink)
    listing = again.extend(source(faces), chunk_rows=3, limit=None)
    assert (listing.added, listing.vanished, listing.changed) == (1, 1, 1)
    assert listing.changed_examples == ["4.jpg"]
    assert planned(again) == [*before, "00.jpg"]
    nothing = Plan.load(sink).extend(source(faces), chunk_rows=3, limit=None)
    assert (nothing.added, nothing.vanished) == (0, 1)


def test_what_a_dead_planner_left_is_planned_again(faces: Path, sink: Folder) -> None:
    plan = Plan.load(sink)
    plan.extend(source(faces), chunk_rows=3, limit=None)
    sink.delete("plan/generation-0000.json")  # as if it had died before it could write this
    again = Plan.load(sink)
    assert (again.chunks, sink.list("plan")) == (0, [])
    again.extend(source(faces), chunk_rows=3, limit=None)
    assert sorted(planned(again)) == sorted(planned(plan))


def test_a_plan_made_again_at_the_same_place_is_not_taken_for_the_old_one(faces: Path, sink: Folder) -> None:
    plan = Plan.load(sink)
    plan.extend(source(faces), chunk_rows=3, limit=None)
    assert "0.jpg" in planned(plan)
    shutil.rmtree(sink.uri)
    (faces / "0.jpg").unlink()
    plan = Plan.load(sink)
    plan.extend(source(faces), chunk_rows=4, limit=None)
    assert planned(plan) == [f"{number}.jpg" for number in range(1, 10)]


def test_a_limit_counts_rows_of_all_runs(faces: Path, sink: Folder) -> None:
    plan = Plan.load(sink)
    plan.extend(source(faces), chunk_rows=3, limit=7)
    assert (plan.rows, planned(plan)) == (7, [f"{number}.jpg" for number in range(7)])
    assert Plan.load(sink).extend(source(faces), chunk_rows=3, limit=7).added == 0


counts = st.lists(st.integers(1, 5), max_size=30)


@given(counts, st.integers(5, 9), st.integers(1, 60))
def test_chunks_hold_every_row_in_order_and_never_too_many(sizes: list[int], rows: int, limit: int) -> None:
    slices = [Slice("f", start, count) for start, count in enumerate(sizes)]
    cut = list(limited(iter(slices), limit))
    chunks = list(chunked(iter(cut), rows))
    assert [one for chunk in chunks for one in chunk] == cut
    assert sum(one.count for one in cut) == min(limit, sum(sizes))
    assert all(0 < sum(one.count for one in chunk) <= rows for chunk in chunks)


def test_chunks_of_large_images_hold_fewer() -> None:
    slices = [Slice(str(i), 0, 1, bytes=CHUNK_BYTES // 3) for i in range(7)]
    slices.append(Slice("huge", 0, 1, bytes=9 * CHUNK_BYTES))
    assert [len(chunk) for chunk in chunked(iter(slices), 256)] == [3, 3, 1, 1]


def rows_of(chunk_rows: int, plan: Plan) -> list[int]:
    assert all(plan.index.rows(chunk) <= chunk_rows for chunk in range(plan.chunks))
    return [plan.index.rows(chunk) for chunk in range(plan.chunks)]


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(("rows", "replicas", "limit"), [(1000, 8, None), (1000, 8, 50), (10, 8, None), (3, 8, None)])
def test_a_table_of_tiny_rows_reaches_all_replicas(
    tmp_path: Path, sink: Folder, format: str, rows: int, replicas: int, limit: int | None
) -> None:
    uris = [f"{number}.jpg" for number in range(rows)]
    if format == "parquet":
        pq.write_table(pa.table({"uri": uris}), tmp_path / "a.parquet")
    else:
        lines = [f'{{"uri": "{uri}"}}' for uri in uris] if format == "jsonl" else ["uri", *uris]
        (tmp_path / f"a.{format}").write_text("\n".join(lines))
    table = source(tmp_path / f"a.{format}")
    chunk_rows = rows_of_a_chunk(table, 256, replicas, batch_size=32, limit=limit)
    plan = Plan.load(sink)
    plan.extend(table, chunk_rows, limit)
    counts = rows_of(chunk_rows, plan)
    assert sum(counts) == (limit or rows)
    assert len(counts) >= min(replicas, sum(counts))
    assert max(counts) <= 32


def test_a_large_source_keeps_its_chunks(faces: Path) -> None:
    assert rows_of_a_chunk(source(faces), 2, replicas=1, batch_size=64, limit=None) == 2
    assert rows_of_a_chunk(source(faces), 256, replicas=1, batch_size=64, limit=None) == 10


@pytest.mark.parametrize("name", ["list.jsonl", "list.csv", "list.parquet"])
def test_chunks_of_large_images_that_a_table_names_hold_fewer(
    tmp_path: Path, sink: Folder, monkeypatch: pytest.MonkeyPatch, portraits: list[bytes], name: str
) -> None:
    monkeypatch.setattr(chunking, "CHUNK_BYTES", 2**20)
    (tmp_path / "large.jpg").write_bytes(portraits[0] + bytes(2**18))
    folder = tmp_path / "lists"
    folder.mkdir()
    uris = ["../large.jpg", "../gone.jpg", *["../large.jpg"] * 28]
    match name.rpartition(".")[2]:
        case "jsonl":
            (folder / name).write_text("\n".join(json.dumps({"uri": uri}) for uri in uris))
        case "csv":
            (folder / name).write_text("\n".join(["uri", *uris]))
        case _:
            pq.write_table(pa.table({"uri": uris}), folder / name)
    run = PlainRun(folder, sink, "run.chunk_rows=256")
    assert {run.plan.index.rows(chunk) for chunk in range(run.plan.chunks - 1)} == {3}
    assert all(len(read_chunk(run.job, run.plan.index, chunk)) < 2**20 for chunk in range(run.plan.chunks))


def test_a_replica_gets_more_chunks_at_a_time_where_they_hold_few_rows(
    tmp_path: Path, sink: Folder, portraits: list[bytes]
) -> None:
    job = PlainRun(put_faces(tmp_path / "some", portraits[:2]), sink, "run.chunk_rows=256", "engine.batch_size=64").job
    assert (job.calls, replace(job, chunk_rows=16).calls) == (2, 9)
