"""Runs of the job, in this process, on one Ray that all tests of this folder share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from tests.tiny import save_random_model
from uniface_ray.batch.driver import RunSummary, run
from uniface_ray.core.compose import compose
from uniface_ray.core.storage import Folder

Caption = Callable[..., RunSummary]


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="package")
def one_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def caption(one_ray: None, random_model: Path) -> Caption:
    """Run the caption job with a random model and chunks small enough to have several."""

    def call(*overrides: str) -> RunSummary:
        few = [f"model.path={random_model}", "task.max_new_tokens=6", "run.chunk_rows=40", "engine.batch_size=20"]
        return run(compose("caption", [*few, *overrides]))

    return call


def rows_of(sink: Folder, status: str) -> list[dict[str, Any]]:
    """All output rows of one status, in order of chunks."""
    names = [entry.name for entry in sink.list(f"data/status={status}")]
    return [row for name in names for row in pq.read_table(pa.BufferReader(sink.read(name))).to_pylist()]


@pytest.fixture
def portraits_folder(tmp_path: Path, portraits: list[bytes]) -> Path:
    """The portraits as files of a folder of the test's own."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    for number, data in enumerate(portraits):
        (folder / f"{number:02d}.jpg").write_bytes(data)
    return folder
