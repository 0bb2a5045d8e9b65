"""What is told before a run: a dry run's plan and samples, and the trial of one replica."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.batch.plain_run import PlainRun, faces
from uniface_ray.batch.dry_run import told
from uniface_ray.batch.preflight import check
from uniface_ray.batch.trial import Measured, Trial, try_out
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder


def test_a_dry_run_tells_plan_samples_and_pace(tmp_path: Path, portraits: list[bytes]) -> None:
    run = PlainRun(faces(tmp_path / "faces", portraits, bad=(5,)), Folder(str(tmp_path / "out"), StorageConfig()))
    lines = told(run.job, run.plan, run.tally, 4, rows_per_s=0.5)
    assert lines[0][1].startswith("20 of 20 rows, in 4 chunks, are to be done, about 0.00 GB")
    samples = [text for label, text in lines if label == "sample"]
    assert samples[0] == f"00.jpg: {len(portraits[0]):,} bytes"
    assert samples[1].startswith("05.jpg: would be rejected as unsupported_format: ")
    assert len(samples) == 4
    assert lines[-1] == ("estimate", "0:40 at the pace of the last attempt")
    assert "run.preflight=true" in told(run.job, run.plan, run.tally, 4, None)[-1][1]


def test_a_trial_measures_with_the_real_model_and_writes_nothing(
    tmp_path: Path, portraits: list[bytes], random_model: Path
) -> None:
    source = faces(tmp_path / "faces", portraits, bad=(1,))
    typed = [f"source.path={source}", f"sink.path={tmp_path / 'out'}", f"model.path={random_model}"]
    config = compose("caption", [*typed, "task.max_new_tokens=2", "engine.threads=1"])
    trial = try_out(config, check(config), "cpu", "float32", rows=4)
    assert (trial.tried, trial.rejected) == (4, 1)
    assert [one.batch_size for one in trial.sizes][:2] == [1, 2]
    assert all(one.rows_per_s > 0 and one.memory_mib > 50 for one in trial.sizes)
    assert trial.chunk_rows % trial.best.batch_size == 0
    assert not (tmp_path / "out").exists()
    faces(source, portraits, bad=range(20))
    with pytest.raises(UserError, match="none of the first 4 rows"):
        try_out(config, check(config), "cpu", "float32", rows=4)


def test_photos_are_tried_as_the_faces_in_them(tmp_path: Path, portraits: list[bytes], random_model: Path) -> None:
    """One of two portraits has its face, a grey picture has none; a broken file costs itself alone."""
    grey = io.BytesIO()
    Image.new("RGB", (256, 256), (128, 128, 128)).save(grey, "JPEG")
    source = faces(tmp_path / "faces", [portraits[0], grey.getvalue(), b""], bad=(2,))
    typed = [f"source.path={source}", f"sink.path={tmp_path / 'out'}", f"model.path={random_model}"]
    config = compose("caption", [*typed, "task.max_new_tokens=2", "engine.threads=1", "faces.enabled=true"])
    trial = try_out(config, check(config), "cpu", "float32", rows=3)
    assert (trial.tried, trial.rejected, trial.faces) == (3, 1, 1)
    assert any(text.startswith("1 in them") for label, text in trial.lines(None) if label == "faces")
    run = PlainRun(source, Folder(str(tmp_path / "dry"), StorageConfig()), "faces.enabled=true", "run.chunk_rows=1")
    samples = [text for label, text in told(run.job, run.plan, run.tally, 3, None) if label == "sample"]
    assert samples[0].endswith("bytes, 1 faces")
    assert samples[1].endswith("bytes, 0 faces")
    assert "would be rejected as unsupported_format" in samples[2]


def test_the_smallest_batch_that_no_larger_one_beats_by_much() -> None:
    sizes = [Measured(1, 10.0, 100), Measured(2, 18.0, 110), Measured(4, 18.4, 150), Measured(8, 25.0, 200)]
    trial = Trial(8, 0, 0.001, 0.002, sizes, 2400)
    assert trial.best.batch_size == 8
    assert Trial(8, 0, 0.0, 0.0, sizes[:3], 0).best.batch_size == 2
    lines = trial.lines(price_per_replica_hour=3.6)
    assert ("batch 8", "25.0 rows/s, 200 MiB  <- proposed") in lines
    assert ("estimate", "a million rows take one replica 11:06:40, price 40.00") in lines
    assert lines[-1] == ("propose", "engine.batch_size=8 run.chunk_rows=2400")
