"""Old files and batches go, whoever's they are."""

import time
from pathlib import Path

import pytest

from tests.serve.batch_client import ANN_LINE
from tests.serve.conftest import Configure
from tests.serve.test_batch_lines import CHAT
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batches import Batches, BatchRequest
from uniface_ray.serve.files import store_in


def test_old_files_and_batches_of_everybody_go(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(f"files.path={tmp_path}", "files.keep_days=2", f"guard.keys=[{ANN_LINE}]")
    folder = Folder(str(tmp_path), StorageConfig())
    batches = Batches(config, folder, {"random": 32}, lambda batch, attempt: None)
    kept: set[str] = set()
    for owner in ("ann", "somebody-whose-key-is-gone"):
        file = store_in(config, owner).put([b"{}"], "in.jsonl", "batch")
        asked = BatchRequest(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        ended, cut, under_way = (batches.find(owner, batches.create(owner, asked)["id"]) for _ in range(3))
        ended.tell({"status": "completed"})
        folder.delete(f"{cut.home}/request.json")  # its server ended while it removed it
        assert [one["id"] for one in batches.list(owner, 9)["data"]] == [under_way.id, ended.id]
        kept |= {f"{under_way.home}/request.json", f"owners/{owner}/batches/{under_way.id}"}
        kept |= {f"open/{owner}/{under_way.id}"}
    before = {entry.name for entry in folder.walk()}
    batches.sweep()
    after = {entry.name for entry in folder.walk()}
    assert before > after > kept
    assert sum("/files/" in name for name in after) == 4
    now = time.time() + 2 * 86400 + 1
    monkeypatch.setattr(time, "time", lambda: now)
    batches.sweep()
    assert {entry.name for entry in folder.walk()} == kept
