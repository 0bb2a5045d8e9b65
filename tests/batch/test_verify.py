"""A whole output is good, and every way to harm it is told, on disk and in a bucket."""

import errno
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batch.plain_run import Instant, PlainRun, faces
from uniface_ray import cli
from uniface_ray.batch import plan as planning
from uniface_ray.batch.commit import Marker, OutputFile
from uniface_ray.batch.layout import OK, REJECTED, marker_name, part_name
from uniface_ray.batch.verify import Verdict, verify
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject
from uniface_ray.core.sink_config import VerifyConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Request, Result


@pytest.fixture(scope="module", autouse=True)
def two_chunks_a_file() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "CHUNKS_PER_FILE", 2)
        yield


class Black(Instant):
    """Draws at once."""

    def _answer(self, request: Request) -> Result | Reject:
        return NullEngine._answer(self, request)


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, portraits: list[bytes]) -> Path:
    """The output of twenty rows in four chunks, two of them rejected."""
    folder = tmp_path_factory.mktemp("finished")
    sink = Folder(str(folder / "out"), StorageConfig())
    PlainRun(faces(folder / "faces", portraits, bad=(3, 11)), sink).finish()
    return folder / "out"


@pytest.fixture
def output(finished: Path, sink: Folder) -> Folder:
    """A copy of it to do harm to."""
    shutil.copytree(finished, sink.uri)
    return sink


def look(sink: Folder, *words: str) -> Verdict:
    reach = [f"storage.{name}={value}" for name, value in sink.storage.model_dump(exclude_defaults=True).items()]
    return verify(compose("verify", [f"sink.path={sink.uri}", *reach, *words], VerifyConfig))


def test_a_finished_output_is_good(output: Folder) -> None:
    verdict = look(output)
    assert (verdict.problems, verdict.exit_code, verdict.files) == ([], 0, 6)
    assert verdict.counts == {"input": 20, "ok": 18, "rejected": 2, "pending": 0, "rows_out": 18}
    assert verdict.bytes == sum(entry.size for entry in output.list("data", recursive=True))
    assert dict(verdict.lines())["good"]


def test_in_a_bucket_too(tmp_path: Path, place: Folder, portraits: list[bytes]) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits, bad=(3,)), place).finish()
    assert look(place).exit_code == 0
    name = part_name(OK, 1)
    place.write(name, place.read(name)[:-1] + b"\0")
    assert look(place).kinds == {"checksum": 1}
    assert run.sink is place


def test_an_unfinished_output_is_sound_but_not_whole(tmp_path: Path, sink: Folder, portraits: list[bytes]) -> None:
    PlainRun(faces(tmp_path / "faces", portraits), sink).finish("interrupted", [0, 2])
    verdict = look(sink)
    assert (verdict.problems, verdict.exit_code, verdict.counts["pending"]) == ([], 3, 10)


def test_blank_lines_leave_gaps_in_positions_and_no_rows_behind(
    tmp_path: Path, sink: Folder, portraits: list[bytes]
) -> None:
    faces(tmp_path / "faces", portraits)
    lines = [json.dumps({"uri": f"faces/{number:02d}.jpg"}) + "\n" + "\n" * (number % 4) for number in range(20)]
    (tmp_path / "list.jsonl").write_text("".join(lines) + '{"uri": "faces/none.jpg"}')
    PlainRun(tmp_path / "list.jsonl", sink).finish()
    verdict = look(sink)
    assert (verdict.problems, verdict.counts["ok"], verdict.counts["rejected"]) == ([], 20, 1)


def test_images_that_are_files_too(tmp_path: Path, sink: Folder) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a face"}\n' * 8)
    PlainRun(tmp_path / "prompts.jsonl", sink, "task.files=true", command="generate", engine=Black()).finish()
    assert (look(sink).problems, look(sink).exit_code) == ([], 0)
    images = [entry.name for entry in sink.list("files", recursive=True)]
    assert len(images) == 8
    sink.delete(images[0])
    sink.write(images[1], b"another")
    verdict = look(sink)
    assert (verdict.kinds, verdict.exit_code) == ({"missing_file": 1, "checksum": 1}, 5)
    assert {problem.where for problem in verdict.problems} == set(images[:2])


def rewrite(sink: Folder, chunk: int, change: Callable[[pa.Table], pa.Table], status: str = OK) -> None:
    """Change a file and let its marker say that it was written so."""
    name = part_name(status, chunk)
    buffer = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(sink.read(name)))), buffer)
    marker = Marker.from_json(sink.read(marker_name(chunk)))
    data = buffer.getvalue()
    written = OutputFile(name, len(data), hashlib.sha256(data).hexdigest())
    files = [written if file.name == name else file for file in marker.files]
    sink.write(name, data)
    sink.write(marker_name(chunk), replace(marker, files=files).to_json().encode())


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)])


def renamed(table: pa.Table) -> pa.Table:
    ids = table["row_id"].to_pylist()
    return table.set_column(0, "row_id", pa.array([7, *ids[1:]], pa.int64()))


def of_another_model(table: pa.Table) -> pa.Table:
    at = table.column_names.index("model")
    return table.set_column(at, "model", pa.array(["other"] * table.num_rows))


@pytest.mark.parametrize(
    ("harm", "kinds", "told"),
    [
        (lambda sink: sink.delete(part_name(OK, 2)), {"missing_file"}, "there is no such file"),
        (lambda sink: sink.write(part_name(OK, 2), b"PAR1"), {"checksum"}, "has 4 bytes of another checksum"),
        (lambda sink: sink.write(f"{OK}/part-copy.parquet", b""), {"stray"}, "readers of the folder take it for one"),
        (lambda sink: sink.write(part_name(REJECTED, 3), b""), {"stray"}, "is not in its chunk's marker"),
        (
            lambda sink: sink.write(marker_name(1), b'{"open": "0", "before": null}'),
            {"no_marker", "manifest"},
            "its chunk was not finished",
        ),
        (lambda sink: sink.delete(marker_name(1)), {"no_marker", "manifest"}, "its chunk was not finished"),
        (lambda sink: sink.write(marker_name(1), b"{}"), {"unreadable", "manifest"}, "is no marker"),
        (lambda sink: sink.write(marker_name(9), sink.read(marker_name(1))), {"unplanned"}, "the plan of 4 does not"),
        (lambda sink: sink.delete("plan/00000002.parquet"), {"plan", "manifest"}, "cannot be read"),
        (
            lambda sink: sink.write("plan/00000002.parquet", sink.read("plan/00000000.parquet")),
            {"plan", "manifest"},
            "twice",
        ),
        (lambda sink: rewrite(sink, 1, doubled), {"duplicate", "lost", "manifest"}, "are there more than once"),
        (lambda sink: rewrite(sink, 1, renamed), {"lost", "unplanned", "manifest"}, "are not of its plan: row_id 7"),
        (
            lambda sink: rewrite(sink, 1, lambda t: t.slice(1)),
            {"count", "lost", "manifest"},
            "rows are nowhere",
        ),
        (
            lambda sink: rewrite(sink, 0, lambda t: t.append_column("new", pa.nulls(t.num_rows))),
            {"schema", "manifest"},
            "other columns",
        ),
        (lambda sink: rewrite(sink, 1, lambda t: t.drop_columns("seed")), {"schema", "manifest"}, "has no column seed"),
        (lambda sink: rewrite(sink, 1, of_another_model), {"identity", "manifest"}, "has model='other' in a run of"),
        (
            lambda sink: rewrite(sink, 0, lambda t: t.set_column(6, "error_kind", pa.array(["odd"])), REJECTED),
            {"schema", "count", "manifest"},
            "has error_kind odd",
        ),
    ],
)
def test_harm_is_told(output: Folder, harm: Callable[[Folder], None], kinds: set[str], told: str) -> None:
    harm(output)
    verdict = look(output)
    assert verdict.exit_code == 5
    assert set(verdict.kinds) == kinds
    assert any(told in problem.message for problem in verdict.problems)


def test_a_plan_with_a_damaged_page_is_told(output: Folder) -> None:
    name = "plan/00000002.parquet"
    data = bytearray(output.read(name))
    data[8:40] = bytes(32)
    output.write(name, bytes(data))
    assert set(look(output).kinds) >= {"plan"}


def test_a_storage_that_fails_is_no_verdict(output: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Folder, name: str) -> bytes:
        if name.startswith(OK):
            raise OSError(errno.EIO, "Input/output error")
        return whole(folder, name)

    whole = Folder.read
    monkeypatch.setattr(Folder, "read", read)
    with pytest.raises(UserError, match=r"sink.path is .*, which cannot be used \(Input/output error\)"):
        look(output)


def test_a_manifest_that_counts_otherwise(output: Folder) -> None:
    document = json.loads(output.read("manifest.json"))
    document["counts"]["ok"] += 1
    document["files"][0]["sha256"] = "0"
    document["files"].append({"name": "data/status=ok/part-00000042.parquet", "bytes": 1, "sha256": "1"})
    output.write("manifest.json", json.dumps(document).encode())
    assert look(output).kinds == {"manifest": 3}


def test_the_command(output: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("verify", [f"sink.path={output.uri}"]) == 0
    assert "every planned row is there exactly once" in capsys.readouterr().out
    for chunk in range(4):
        output.delete(part_name(OK, chunk))
    assert cli.main("verify", [f"sink.path={output.uri}", "verify.format=json", "verify.problems=1"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert (found["kinds"], len(found["problems"])) == ({"missing_file": 4}, 1)
