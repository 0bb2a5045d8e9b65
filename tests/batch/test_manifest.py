"""Whose rows a sink holds: this run's or another one's."""

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.layout import marker_name
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder

Open = Callable[..., Manifest]


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


@pytest.fixture
def open_again(sink: Folder) -> Open:
    """Open the sink's manifest as `uniface caption` with these settings does."""
    tokens = count(1)

    def call(*words: str, weights: str = "w", dtype: str = "float32") -> Manifest:
        config = compose("caption", [f"sink.path={sink.uri}", *words])
        return Manifest.open(sink, config, weights, dtype, attempt=next(tokens))

    return call


@pytest.fixture
def document(sink: Folder, open_again: Open) -> dict[str, object]:
    """The manifest of a run that has committed a chunk and is done."""
    open_again("source.path=faces").write("done", Tally(input=5))
    marker = Marker(0, 5, 5, 0, 5, {}, [], {}, 1, "2026-01-01T00:00:00+00:00")
    sink.write(marker_name(0), marker.to_json().encode())
    return json.loads(sink.read("manifest.json"))


def test_the_same_run_goes_on(document: dict[str, object], open_again: Open) -> None:
    again = open_again("source.path=faces/", "engine.batch_size=3", "engine.replicas=2", "run.chunk_rows=1")
    assert (again.attempt, again.was_done) == (2, True)


@pytest.mark.parametrize(
    ("words", "weights", "told"),
    [
        (["source.path=faces", "run.seed=1"], "w", r"run\.seed was 0, now 1"),
        (["source.path=faces", "task.question=How old?"], "w", r"task\.question was .*, now 'How old\?'"),
        (["source.path=other"], "w", r"source\.path was '.*/faces', now '.*/other'"),
        (["source.path=faces"], "others", r"model\.weights was 'w', now 'others'"),
        (["source.path=faces", "engine.dtype=bfloat16"], "w", r"engine\.dtype was 'float32', now 'bfloat16'"),
    ],
)
def test_another_run_is_kept_out(
    document: dict[str, object], open_again: Open, words: list[str], weights: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        open_again(*words, weights=weights, dtype="bfloat16" if "engine.dtype=bfloat16" in words else "float32")


def test_automatic_precision_keeps_to_what_rows_were_made_with(
    document: dict[str, object], open_again: Open, sink: Folder
) -> None:
    assert open_again("source.path=faces", dtype="bfloat16").dtype == "float32"
    sink.delete(marker_name(0))  # before there are rows, it is free
    assert open_again("source.path=faces", dtype="bfloat16").dtype == "bfloat16"


def test_checkpoints_without_a_manifest_are_nobodys(
    document: dict[str, object], open_again: Open, sink: Folder
) -> None:
    sink.delete("manifest.json")
    with pytest.raises(UserError, match=r"checkpoints but no manifest\.json"):
        open_again("source.path=faces")


def test_what_a_killed_writer_left_is_no_marker(document: dict[str, object], sink: Folder) -> None:
    for name in (".writing-0123", "notes.txt", "00000001.json.bak"):
        Path(sink.uri, "checkpoint", name).write_bytes(b"")
    assert [marker.chunk for marker in read_markers(sink)] == [0]


def test_the_hours_of_a_run_that_died_are_those_it_was_last_heard_with(
    document: dict[str, Any], open_again: Open, sink: Folder
) -> None:
    gone = {"attempt": 2, "state": "running", "host": os.uname().nodename, "pid": 2**22 + 1, "updated_at": "then"}
    document["attempts"][0] |= {"replica_hours": 1.0, "gpu_hours": 0.5}
    document["attempts"].append(gone | {"started_at": "then"})
    sink.write("manifest.json", json.dumps(document).encode())
    heard = {"attempt": 2, "updated_at": "later", "costs": {"replica_hours": 3.0, "gpu_hours": 1.5}}
    sink.write("progress.json", json.dumps(heard).encode())
    manifest = open_again("source.path=faces", "run.price_per_replica_hour=2")
    assert [attempt["attempt"] for attempt in manifest.attempts][:2] == [1, 2]
    died = manifest.attempts[1]
    assert (died["state"], died["replica_hours"], died["gpu_hours"]) == ("died", 2.0, 1.0)
    manifest.write("done", Tally(input=6, ok=6), replica_hours=1.0, gpu_hours=0.0)
    assert json.loads(sink.read("manifest.json"))["costs"] == {
        "replica_hours": 4.0,
        "gpu_hours": 1.5,
        "rows_per_replica_hour": 1.5,
        "price": 8.0,
        "price_per_million_rows": 1333333.333333,
    }
