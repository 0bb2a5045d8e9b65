"""A user's mistakes: one clear message, exit code 2, nothing started and nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3_server import S3Server
from uniface_ray.cli import main

Answer = Callable[..., str]


@pytest.fixture
def answer(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, random_model: Path, portraits_folder: Path
) -> Answer:
    """Run `uniface caption` with a mistake in it, and give what it says."""

    def no_ray(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started for a mistake in the settings")

    monkeypatch.setattr("ray.init", no_ray)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this folder may have started one

    def call(*words: str) -> str:
        given = {word.partition("=")[0] for word in words}
        usual = {"source.path": portraits_folder, "model.path": random_model}
        code = main("caption", [*(f"{name}={path}" for name, path in usual.items() if name not in given), *words])
        out, err = capfd.readouterr()
        assert code == 2, (out, err)
        assert "Traceback" not in out + err
        assert err.count("\n") == 1, err
        return err

    return call


@pytest.fixture
def sink(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["source.path=/nowhere/faces"], ["source.path", "/nowhere/faces"]),
        (["source.pth=faces"], ["source.pth", "source.path"]),
        (["engine.batch_size=many"], ["engine.batch_size", "many"]),
        (["engine.replicas=[4,2]"], ["engine.replicas", "min"]),
        (["engine.device=cuda"], ["engine.device", "cuda", "engine.device=cpu"]),
        (["engine.device=cuda:1"], ["engine.device", "cuda:1"]),
        (["engine.device=tpu"], ["engine.device", "tpu"]),
        (["model.path=/nowhere/weights"], ["model.path", "/nowhere/weights", "config.json"]),
        (["model=gpt"], ["gpt", "uniface-tiny"]),
        (["source.keep_columns=[id]"], ["source.keep_columns", "no columns"]),
        (["source.format=parquet"], ["source.path", "parquet"]),
        (["cluster.address=127.0.0.1:1"], ["cluster.address", "127.0.0.1:1", "ray start"]),
        (["cluster.address=http://127.0.0.1:8265"], ["cluster.address", "ray job submit"]),
    ],
)
def test_it_is_named_and_leaves_no_sink(answer: Answer, sink: Path, words: list[str], told: list[str]) -> None:
    message = answer(f"sink.path={sink}", *words)
    assert [part for part in told if part not in message] == []
    assert not sink.exists()


def test_no_sink_at_all(answer: Answer) -> None:
    assert "sink.path" in answer()


def test_an_empty_source(answer: Answer, sink: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = answer(f"source.path={tmp_path / 'empty'}", f"sink.path={sink}")
    assert "source.path" in message
    assert not sink.exists()


def test_columns_that_are_missing_or_taken(answer: Answer, sink: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": [b"x"], "seed": [1]}), tmp_path / "faces.parquet")
    given = (f"source.path={tmp_path / 'faces.parquet'}", f"sink.path={sink}")
    assert "picture" in answer(*given), "the columns that exist should be told"
    message = answer(*given, "source.image_column=picture", "source.keep_columns=[seed]")
    assert "source.keep_columns has seed" in message


def test_a_sink_that_cannot_be_written(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "sink.path" in answer(f"sink.path={tmp_path / 'file' / 'out'}")


def test_a_sink_inside_its_source(answer: Answer, portraits_folder: Path) -> None:
    assert "lies inside source.path" in answer(f"sink.path={portraits_folder / 'out'}")
    assert not (portraits_folder / "out").exists()


def test_buckets_keys_and_servers_that_are_wrong(answer: Answer, sink: Path, s3: S3Server) -> None:
    storage = s3.storage
    good = [
        f"storage.endpoint={storage.endpoint}",
        f"storage.access_key={storage.access_key}",
        f"storage.secret_key={storage.secret_key}",
    ]
    assert "no bucket 'absent'" in answer("source.path=s3://absent/faces", f"sink.path={sink}", *good)
    assert "no bucket 'absent'" in answer("sink.path=s3://absent/out", *good)
    assert "sink.path" in answer("sink.path=s3://absent/out", *good)
    bucket = s3.bucket()
    wrong = [*good[:2], "storage.secret_key=wrong"]
    assert "refused" in answer(f"source.path=s3://{bucket}/faces", f"sink.path={sink}", *wrong)
    dead = ["storage.endpoint=http://127.0.0.1:1", "storage.attempts=1", *good[1:]]
    assert "does not answer" in answer(f"source.path=s3://{bucket}/faces", f"sink.path={sink}", *dead)
    assert not sink.exists()
