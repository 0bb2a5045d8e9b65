"""A run in a process of its own, ended in the middle and resumed: no row lost, none doubled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch.conftest import rows_of
from tests.pictures import odd_files, variations
from tests.s3_server import S3Server
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join

COUNT = 400
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def files(portraits: list[bytes]) -> dict[str, tuple[bytes, RejectKind | None]]:
    """Four hundred images, eleven of them broken or odd."""
    odd = {f"odd/{name}": entry for name, entry in odd_files(portraits[0]).items()}
    whole = variations(portraits, COUNT - len(odd))
    return odd | {f"{number % 7}/{number:03d}.jpg": (data, None) for number, data in enumerate(whole)}


@pytest.fixture
def source(s3: S3Server, files: dict[str, tuple[bytes, RejectKind | None]]) -> Folder:
    folder = Folder(f"s3://{s3.bucket()}/faces", s3.storage)
    for name, (data, _) in files.items():
        folder.write(name, data)
    return folder


@pytest.fixture
def sink(source: Folder) -> Folder:
    return Folder(join(source.uri.rpartition("/")[0], "captions"), source.storage)


@pytest.fixture
def start(source: Folder, sink: Folder, random_model: Path) -> Start:
    """Start `uniface caption` as a user would, with the bucket's keys in the environment."""

    def call() -> "subprocess.Popen[str]":
        keys = {"AWS_ACCESS_KEY_ID": source.storage.access_key, "AWS_SECRET_ACCESS_KEY": source.storage.secret_key}
        words = [
            f"source.path={source.uri}",
            f"sink.path={sink.uri}",
            f"storage.endpoint={source.storage.endpoint}",
            f"model.path={random_model}",
            "task.max_new_tokens=12",
            "run.chunk_rows=8",
            "run.progress_every_s=0.5",
        ]
        # Its own session, so that a signal reaches the run alone, as one to a job does.
        return subprocess.Popen(
            [sys.executable, "-m", "uniface_ray.cli", "caption", *words],
            env={**os.environ, **{name: value or "" for name, value in keys.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return call


def wait_for_markers(sink: Folder, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while len(sink.list("checkpoint")) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_whole(sink: Folder, files: dict[str, tuple[bytes, RejectKind | None]]) -> None:
    ok, rejected = rows_of(sink, "ok"), rows_of(sink, "rejected")
    seen = Counter(row["row_id"] for row in ok + rejected)
    assert seen == Counter(row_id_of(name, 0) for name in files)
    kinds = Counter(kind for _, kind in files.values() if kind)
    assert Counter(row["error_kind"] for row in rejected) == kinds
    manifest = json.loads(sink.read("manifest.json"))
    assert manifest["counts"] == {
        "input": COUNT,
        "ok": COUNT - kinds.total(),
        "rejected": kinds.total(),
        "pending": 0,
        "rows_out": COUNT - kinds.total(),
    }
    assert sorted(file["name"] for file in manifest["files"]) == [entry.name for entry in sink.list("data", True)]


@pytest.mark.slow
def test_killed_and_resumed_in_a_bucket(
    start: Start, sink: Folder, files: dict[str, tuple[bytes, RejectKind | None]]
) -> None:
    process = start()
    wait_for_markers(sink, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {entry.name: sink.read(entry.name) for entry in sink.list("checkpoint")}
    assert 3 <= len(done) < COUNT / 8

    resumed = start()
    out, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, out
    assert "resuming" in out
    check_whole(sink, files)
    assert all(sink.read(name) == marker for name, marker in done.items()), "finished chunks are not done again"
    assert [attempt["attempt"] for attempt in json.loads(sink.read("manifest.json"))["attempts"]] == [1, 2]

    again = start()
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "nothing new" in out
    assert "Ray" not in out


@pytest.mark.slow
def test_asked_to_end_it_finishes_what_is_under_way(
    start: Start, sink: Folder, files: dict[str, tuple[bytes, RejectKind | None]]
) -> None:
    process = start()
    wait_for_markers(sink, 2, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert "Traceback" not in out
    manifest = json.loads(sink.read("manifest.json"))
    counts = manifest["counts"]
    assert manifest["state"] == "interrupted"
    assert 0 < counts["pending"] < COUNT
    assert counts["input"] == COUNT == counts["ok"] + counts["rejected"] + counts["pending"]
    assert len(rows_of(sink, "ok")) == counts["ok"], "no file without its marker is left behind"

    resumed = start()
    out, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, out
    check_whole(sink, files)
