"""The caption job on a shared local Ray: what comes out of what goes in, on disk and in a bucket."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.batch.conftest import Caption, rows_of
from tests.pictures import odd_files, variations
from tests.s3_server import S3Server
from uniface_ray.api import caption as caption_here
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join

COUNT = 100


@pytest.fixture(scope="module")
def odd(portraits: list[bytes]) -> dict[str, tuple[bytes, RejectKind | None]]:
    return odd_files(portraits[0])


@pytest.fixture(scope="module")
def faces(portraits: list[bytes], odd: dict[str, tuple[bytes, RejectKind | None]]) -> dict[str, bytes]:
    """A hundred files, in folders, some of them odd."""
    whole = {f"a/{number:03d}.jpg": data for number, data in enumerate(variations(portraits, COUNT - len(odd)))}
    return whole | {f"b/ü = #1/{name}": data for name, (data, _) in odd.items()}


def put(place: Folder, faces: dict[str, bytes]) -> Folder:
    folder = Folder(join(place.uri, "faces"), place.storage)
    for name, data in faces.items():
        folder.write(name, data)
    return folder


def reaching(storage: StorageConfig) -> list[str]:
    """The settings that reach a place."""
    values = storage.model_dump(exclude_defaults=True)
    return [f"storage.{name}={value}" for name, value in values.items()]


def manifest_of(sink: Folder) -> dict[str, object]:
    return json.loads(sink.read("manifest.json"))


@pytest.mark.parametrize("place", ["s3", pytest.param("disk", marks=pytest.mark.slow)], indirect=True)
def test_every_file_is_accounted_for(
    caption: Caption, place: Folder, faces: dict[str, bytes], odd: dict[str, tuple[bytes, RejectKind | None]]
) -> None:
    source, sink = put(place, faces), Folder(join(place.uri, "out"), place.storage)
    settings = [f"source.path={source.uri}", f"sink.path={sink.uri}", *reaching(place.storage)]
    summary = caption(*settings)

    kinds = Counter(kind for _, kind in odd.values() if kind)
    bad = kinds.total()
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert summary.counts == {
        "input": COUNT,
        "ok": COUNT - bad,
        "rejected": bad,
        "pending": 0,
        "rows_out": COUNT - bad,
    }
    ok, rejected = rows_of(sink, "ok"), rows_of(sink, "rejected")
    assert {row["row_id"] for row in ok + rejected} == {row_id_of(name, 0) for name in faces}
    assert {row["uri"] for row in ok + rejected} == {join(source.uri, name) for name in faces}
    expected = {join(source.uri, f"b/ü = #1/{name}"): kind for name, (_, kind) in odd.items() if kind}
    assert {row["uri"]: row["error_kind"] for row in rejected} == expected
    assert all(row["error_message"] and row["stage"] in ("read", "decode") for row in rejected)

    manifest = manifest_of(sink)
    assert manifest["counts"] == summary.counts
    assert manifest["state"] == "done"
    assert manifest["rejects_by_kind"] == dict(kinds)
    assert place.storage.secret_key is None or place.storage.secret_key not in json.dumps(manifest)
    for file in manifest["files"]:
        data = sink.read(file["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert json.loads(sink.read("progress.json"))["counts"] == summary.counts
    page = sink.read("report.html").decode()
    assert page.count("<img") >= 40
    assert "truncated-with-end.jpg" in page

    before = {entry.name: sink.read(entry.name) for entry in sink.list(recursive=True)}
    assert caption(*settings).counts == summary.counts
    assert {entry.name: sink.read(entry.name) for entry in sink.list(recursive=True)} == before

    source.write("a/one-more.jpg", faces["a/000.jpg"])
    again = caption(*settings)
    assert again.counts["input"] == COUNT + 1
    assert again.counts["ok"] == COUNT - bad + 1
    unchanged = [name for name in before if name.startswith(("data/", "checkpoint/"))]
    assert all(sink.read(name) == before[name] for name in unchanged)


@pytest.mark.slow
def test_the_output_is_one_dataset_and_says_what_the_engine_says(
    caption: Caption, tmp_path: Path, portraits: list[bytes], random_model: Path
) -> None:
    source = Folder(str(tmp_path / "faces"), StorageConfig())
    for number, data in enumerate(portraits):
        source.write(f"{number:02d}.jpg", data)
    sink = Folder(str(tmp_path / "out"), StorageConfig())
    caption(f"source.path={source.uri}", f"sink.path={sink.uri}", "run.chunk_rows=3")
    table = ds.dataset(f"{sink.uri}/data", partitioning="hive").to_table()
    assert set(table["status"].to_pylist()) == {"ok"}
    captions = {Path(row["uri"]).name: row["caption"] for row in table.to_pylist()}
    alone = caption_here(portraits, model__path=str(random_model), task__max_new_tokens="6")
    assert [captions[name] for name in sorted(captions)] == alone


def table_of(portraits: list[bytes], count: int) -> pa.Table:
    images = [*variations(portraits, count - 2), None, b"no image"]
    return pa.table({"id": range(count), "image": images, "who": [{"name": f"n{i}"} for i in range(count)]})


@pytest.mark.slow
def test_tables_keep_their_columns_for_both_outputs(caption: Caption, tmp_path: Path, portraits: list[bytes]) -> None:
    source, sink = (Folder(str(tmp_path / name), StorageConfig()) for name in ("tables", "out"))
    buffer = io.BytesIO()
    pq.write_table(table_of(portraits, 50), buffer, row_group_size=16)
    source.write("x/part-0.parquet", buffer.getvalue())
    summary = caption(
        f"source.path={source.uri}",
        f"sink.path={sink.uri}",
        "source.keep_columns=[id,who]",
        "run.chunk_rows=7",
    )
    assert (summary.counts["ok"], summary.counts["rejected"]) == (48, 2)
    rows = rows_of(sink, "ok") + rows_of(sink, "rejected")
    assert sorted(row["id"] for row in rows) == list(range(50))
    assert all(row["who"] == {"name": f"n{row['id']}"} for row in rows)
    assert {row["row_id"] for row in rows} == {row_id_of("x/part-0.parquet", position) for position in range(50)}
    assert not any("image" in row for row in rows)


def test_lines_of_uris(caption: Caption, tmp_path: Path, portraits: list[bytes]) -> None:
    source, sink = (Folder(str(tmp_path / name), StorageConfig()) for name in ("lists", "out"))
    source.write("pictures/a b.jpg", portraits[0])
    source.write("pictures/c.jpg", portraits[1])
    lines = [
        {"uri": "pictures/a b.jpg", "tag": "first"},
        {"uri": join(source.uri, "pictures/c.jpg"), "tag": 2},
        {"uri": "pictures/missing.jpg", "tag": None},
        {"tag": "no uri"},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + "\nno json\n"
    source.write("list.jsonl", text.encode())
    summary = caption(
        f"source.path={join(source.uri, 'list.jsonl')}",
        f"sink.path={sink.uri}",
        "source.keep_columns=[tag]",
    )
    assert {row["tag"]: row["uri"] for row in rows_of(sink, "ok")} == {
        "first": join(source.uri, "pictures/a b.jpg"),
        "2": join(source.uri, "pictures/c.jpg"),
    }
    kinds = [row["error_kind"] for row in rows_of(sink, "rejected")]
    assert kinds == ["not_found", "bad_request", "bad_request"]
    assert summary.counts["input"] == 5


@pytest.mark.slow
def test_files_that_disagree_on_a_kept_column_cost_only_their_own_rows(
    caption: Caption, tmp_path: Path, portraits: list[bytes]
) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    pq.write_table(pa.table({"image": portraits[:3], "age": [1, 2, 3]}), folder / "a.parquet")
    pq.write_table(pa.table({"image": portraits[:3], "age": ["4", "old", None]}), folder / "b.parquet")
    sink = Folder(str(tmp_path / "out"), StorageConfig())
    caption(f"source.path={folder}", f"sink.path={sink.uri}", "source.keep_columns=[age]")
    assert [row["age"] for row in rows_of(sink, "ok")] == [1, 2, 3, None]
    assert {row["error_kind"] for row in rows_of(sink, "rejected")} == {"bad_request"}
    assert "the first file has int64" in rows_of(sink, "rejected")[0]["error_message"]


@pytest.mark.slow
def test_a_source_that_gives_nothing_any_more_stops_the_run(
    caption: Caption, tmp_path: Path, s3: S3Server, portraits: list[bytes]
) -> None:
    """A table on the disk names files of a bucket whose keys were taken back."""
    bucket = s3.bucket()
    lines = [json.dumps({"uri": f"s3://{bucket}/{number}.jpg"}) for number in range(9)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    keys = [f"storage.endpoint={s3.endpoint}", f"storage.access_key={s3.access_key}"]
    settings = [f"source.path={tmp_path / 'list.jsonl'}", f"sink.path={tmp_path / 'out'}", *keys]
    with pytest.raises(StoppedError, match="gives nothing any more"):
        caption(*settings, "storage.secret_key=taken-back")
    assert not (tmp_path / "out" / "data").exists()
    client = Folder(f"s3://{bucket}", s3.storage)
    for number in range(9):
        client.write(f"{number}.jpg", portraits[number])
    assert caption(*settings, f"storage.secret_key={s3.secret_key}").counts["ok"] == 9


def test_a_table_without_rows_is_a_mistake(caption: Caption, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "faces.parquet")
    with pytest.raises(UserError, match="whose files have no rows"):
        caption(f"source.path={tmp_path / 'faces.parquet'}", f"sink.path={tmp_path / 'out'}")


@pytest.mark.slow
def test_a_sink_that_fails_stops_the_run_and_lets_it_resume(
    caption: Caption, tmp_path: Path, portraits_folder: Path
) -> None:
    settings = [f"source.path={portraits_folder}", f"sink.path={tmp_path / 'out'}"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").write_text("in the way of the output")
    with pytest.raises(StoppedError, match="cannot be written any more") as caught:
        caption(*settings)
    assert caught.value.exit_code == 3
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["state"] == "stopped"
    (tmp_path / "out" / "data").unlink()
    assert caption(*settings).counts["ok"] == 20


def test_a_limit_and_a_dry_run(caption: Caption, tmp_path: Path, portraits: list[bytes]) -> None:
    source = Folder(str(tmp_path / "faces"), StorageConfig())
    for number, data in enumerate(portraits):
        source.write(f"{number:02d}.jpg", data)
    settings = [f"source.path={source.uri}", f"sink.path={tmp_path / 'out'}", "run.limit=5", "report.images=false"]
    dry = caption(*settings, "run.dry_run=true")
    assert (dry.exit_code, dry.counts["pending"], dry.counts["ok"]) == (0, 5, 0)
    assert not (tmp_path / "out" / "data").exists()
    assert caption(*settings).counts == {"input": 5, "ok": 5, "rejected": 0, "pending": 0, "rows_out": 5}
    assert "<img" not in (tmp_path / "out" / "report.html").read_text()
