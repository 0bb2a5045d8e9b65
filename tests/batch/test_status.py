"""What a sink says of its run: made of real manifests and progress files, without Ray."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from uniface_ray import cli
from uniface_ray.batch.follow import Course
from uniface_ray.batch.layout import PROGRESS
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.status import Status, read_status
from uniface_ray.batch.tally import Tally
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.fenced import lease_name
from uniface_ray.core.lease import Holder, take
from uniface_ray.core.progress import RunState
from uniface_ray.core.sink_config import StatusConfig
from uniface_ray.core.storage import Folder


@pytest.fixture
def sink(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"), StorageConfig())


@pytest.fixture
def manifest(sink: Folder) -> Manifest:
    """Of a run that is at work."""
    config = compose("caption", ["source.path=faces", f"sink.path={sink.uri}", "run.price_per_replica_hour=2"])
    manifest = Manifest.open(sink, config, "weights", "float32", attempt=1)
    manifest.write("running", Tally(input=100))
    return manifest


def heard(sink: Folder, ago_s: float = 0.0) -> None:
    """progress.json as the driver writes it, `ago_s` seconds ago."""
    tally = Tally(input=100, ok=30, rejected=2, rows_out=30)
    tally.rejects_by_kind.update({"too_large": 2})
    course = Course(tally, replica_gpus=0.5, price_per_replica_hour=2.0, replica_s=1800.0)
    course.see(1, 2)
    course.meter.add(course.started_s + 1.0, 10)
    document = json.loads(course.progress("running").to_json())
    document["updated_at"] = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
    sink.write(PROGRESS, json.dumps(document).encode())


def status(sink: Folder, *words: str) -> Status:
    return read_status(compose("status", [f"sink.path={sink.uri}", *words], StatusConfig))


def backdate(sink: Folder, seconds: float) -> None:
    """The manifest was written that long ago."""
    document = json.loads(sink.read("manifest.json"))
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    document["attempts"][-1]["updated_at"] = then.isoformat(timespec="seconds")
    sink.write("manifest.json", json.dumps(document).encode())


def test_a_run_at_work(manifest: Manifest, sink: Folder) -> None:
    heard(sink)
    now = status(sink)
    assert (now.state, now.exit_code, now.replicas, now.replicas_busy) == ("running", 0, 2, 1)
    assert now.counts == {"input": 100, "ok": 30, "rejected": 2, "pending": 68, "rows_out": 30}
    assert now.rejects_by_kind == {"too_large": 2}
    assert now.eta_s is not None
    assert now.costs["gpu_hours"] == pytest.approx(0.25, rel=0.01)
    assert now.costs["price"] == pytest.approx(1.0, rel=0.01)
    told = dict(now.lines())
    assert told["rows"] == "30 ok, 2 rejected, 68 pending of 100 rows"
    assert told["rejected"] == "2 too_large"
    assert "replicas 1/2 busy" in told["pace"]


def test_a_silent_run_is_stale_and_resumable(manifest: Manifest, sink: Folder) -> None:
    backdate(sink, 600)
    heard(sink, ago_s=300)
    now = status(sink)
    assert (now.state, now.exit_code, now.eta_s, now.replicas_busy) == ("stale", 3, None, None)
    assert now.counts["ok"] == 30
    assert "silent for 5:0" in dict(now.lines())["stale"]
    assert status(sink, "status.stale_s=1000").state == "running"


def test_a_run_that_listed_nothing_yet(manifest: Manifest, sink: Folder) -> None:
    now = status(sink)
    assert (now.state, now.counts["ok"], now.eta_s) == ("running", 0, None)
    assert now.lines()


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("stopped", 3), ("interrupted", 3), ("failed", 3)])
def test_the_manifest_has_the_last_word(manifest: Manifest, sink: Folder, state: RunState, code: int) -> None:
    heard(sink)
    manifest.write(state, Tally(input=100, ok=99, rejected=1), rows_per_s=7.5, replicas=2)
    now = status(sink)
    assert (now.state, now.exit_code, now.counts["ok"], now.rows_per_s) == (state, code, 99, 7.5)


def test_an_attempt_before_it_listed_is_not_told_by_the_progress_of_the_last_one(
    manifest: Manifest, sink: Folder
) -> None:
    heard(sink, ago_s=3000)
    manifest.write("interrupted", Tally(input=100, ok=30))
    config = compose("caption", ["source.path=faces", f"sink.path={sink.uri}"])
    again = Manifest.open(sink, config, "weights", "float32", attempt=2)
    again.write("running", Tally(input=100, ok=30))
    assert (status(sink).state, status(sink).owner["attempt"]) == ("running", 2)


def test_the_command(manifest: Manifest, sink: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    heard(sink)
    assert cli.main("status", [f"sink.path={sink.uri}"]) == 0
    assert "30 ok, 2 rejected, 68 pending of 100 rows" in capsys.readouterr().out
    assert cli.main("status", [f"sink.path={sink.uri}", "status.format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["pending"] == 68
    assert cli.main("status", [f"sink.path={sink.uri}/elsewhere"]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_bucket_answers_too(place: Folder) -> None:
    config = compose("caption", ["source.path=faces", f"sink.path={place.uri}"])
    Manifest.open(place, config, "weights", "float32", attempt=1).write("running", Tally(input=5))
    reach = [f"storage.{name}={value}" for name, value in place.storage.model_dump(exclude_defaults=True).items()]
    assert status(place, *reach).counts["input"] == 5


def test_who_holds_the_lease_decides_where_this_machine_can_tell(manifest: Manifest, sink: Folder) -> None:
    heard(sink)
    lease = take(sink, lambda _: None)
    now = status(sink)
    assert (now.state, now.owner["alive"]) == ("running", True)
    gone = replace(Holder.from_json(sink.read(lease_name(lease.token))), pid=2**22 + 1)
    sink.write(lease_name(lease.token), gone.to_json())
    now = status(sink)
    assert (now.state, now.owner["alive"], now.exit_code) == ("stale", False, 3)
    assert "its process is gone" in dict(now.lines())["stale"]
    elsewhere = replace(gone, machine="another")
    sink.write(lease_name(lease.token), elsewhere.to_json())
    backdate(sink, 600)
    heard(sink, ago_s=600)
    assert (status(sink).state, status(sink).owner["alive"]) == ("running", None), "the lease is renewed"
    old = (datetime.now(UTC) - timedelta(seconds=500)).isoformat()
    sink.write(lease_name(lease.token), replace(elsewhere, renewed_at=old).to_json())
    assert status(sink).state == "stale"
    lease.release()
