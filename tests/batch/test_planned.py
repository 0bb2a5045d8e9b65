"""What a run tells of its source, and what becomes of files that change under it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.batch.conftest import rows_of
from tests.batch.plain_run import PlainRun
from uniface_ray.batch.planned import planned, remarks
from uniface_ray.batch.tally import Tally
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.core.view import View


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


def told(run: PlainRun) -> str:
    """What the start of a run prints."""
    said = io.StringIO()
    planned(run.job, run.manifest, Tally(), View(Console(file=said), 1.0))
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
