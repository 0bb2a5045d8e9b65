"""What a run tells of its source, and what becomes of files that change under it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.batch.conftest import rows_of
from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.driver import RunSummary, run
from uniface_ray.batch.planned import planned, remarks
from uniface_ray.batch.tally import Tally
from uniface_ray.batch.verify import verify
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.records import row_id_of
from uniface_ray.core.sink_config import VerifyConfig
from uniface_ray.core.storage import FileEntry, Folder
from uniface_ray.core.view import View


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


def told(one: PlainRun) -> str:
    """What the start of a run prints."""
    said = io.StringIO()
    planned(one.job, one.manifest, Tally(), View(Console(file=said), 1.0))
    return said.getvalue()


def test_a_table_that_changed_is_told_and_under_another_name_it_is_done(
    tmp_path: Path, sink: Folder, portraits: list[bytes]
) -> None:
    (tmp_path / "x.jpg").write_bytes(portraits[0])
    lists = tmp_path / "lists"
    lists.mkdir()
    line = json.dumps({"uri": "../x.jpg"}) + "\n"
    (lists / "a.jsonl").write_text(line)
    run = PlainRun(lists, sink)
    (lists / "a.jsonl").write_text(line * 3)  # whoever writes it has come further
    run.finish()
    (reject,) = rows_of(sink, "rejected")
    assert "Under another name it is a new file" in reject["error_message"]
    run = run.again()
    assert "1 planned files have another size than when they were listed (a.jsonl)" in told(run)
    assert "a table under another name is a new one" in remarks(run.manifest)[0]
    (lists / "a.jsonl").rename(lists / "b.jsonl")
    again = run.again().finish()
    assert (again.tally.ok, again.tally.rejected) == (3, 1)
    assert "1 planned files are gone" in told(again.again())


def test_a_listing_that_ends_early_does_not_forget_what_is_done(
    tmp_path: Path, sink: Folder, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits, bad=(3,)), sink).finish("interrupted", [0, 2]).again()

    def interrupted() -> Iterator[FileEntry]:
        raise StoppedError("the storage failed half-way")

    monkeypatch.setattr(run.job.source, "files", interrupted)
    tally = Tally()
    with pytest.raises(StoppedError):
        planned(run.job, run.manifest, tally, View(Console(file=io.StringIO()), 1.0))
    assert tally.counts() == {"input": 20, "ok": 9, "rejected": 1, "pending": 10, "rows_out": 9}


def test_files_that_no_reader_knows_are_told(tmp_path: Path, sink: Folder, portraits: list[bytes]) -> None:
    faces(tmp_path / "faces", portraits[:2])
    for name in ("a.HEIC", "b.heic", "notes", ".hidden.heic", "README.md"):
        (tmp_path / "faces" / name).write_bytes(b"x")
    run = PlainRun(tmp_path / "faces", sink)
    assert "passed over 3 files whose names do not end as those of source.format=images do: 2 .heic, 1 " in told(run)
    assert run.manifest.source["passed_over"] == {".heic": 2, "without ending": 1}


def test_a_share_without_files_is_done_at_once(
    tmp_path: Path, portraits: list[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_ray(*_: object) -> None:
        raise AssertionError("Ray was started for nothing")

    monkeypatch.setattr("uniface_ray.batch.driver.connect", no_ray)
    monkeypatch.setattr("uniface_ray.batch.driver.joins_cluster", lambda _: False)  # other tests' may be running
    faces(tmp_path / "faces", portraits[:1])
    empty = next(share for share in (1, 2) if row_id_of("00.jpg", 0) % 2 != share - 1)
    words = [
        f"source.path={tmp_path / 'faces'}",
        f"source.shard={empty}/2",
        "engine.kind=null",
        "cluster.address=local",
    ]

    def run_to(name: str, *more: str) -> RunSummary:
        return run(compose("caption", [*words, f"sink.path={tmp_path / name}", *more]))

    nothing = {"input": 0, "ok": 0, "rejected": 0, "pending": 0, "rows_out": 0}
    for _ in range(2):
        summary = run_to("out")
        assert (summary.state, summary.exit_code, summary.counts) == ("done", 0, nothing)
    assert verify(compose("verify", [f"sink.path={tmp_path / 'out'}"], VerifyConfig)).exit_code == 0
    assert run_to("dry", "run.dry_run=true").exit_code == 0
    assert "this share has no rows" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"source.shard is {empty}/2, and this share has no rows to try"):
        run_to("tried", "run.preflight=true")
