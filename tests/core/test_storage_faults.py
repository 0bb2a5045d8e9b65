"""A bucket behind a network that fails: what passes is survived, what stays is told."""

from collections.abc import Iterator

import pytest

from tests.fault_proxy import FAULTS, FaultProxy
from tests.s3_server import S3Server
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import SinkInUseError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.lease import take
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.storage import Folder
from uniface_ray.data.fetching import fetch

PICTURE = bytes(range(256)) * 400


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint, {}, seed=1, hang_s=60) as one:
        yield one


@pytest.fixture
def storage(s3: S3Server, proxy: FaultProxy) -> StorageConfig:
    return s3.storage.model_copy(
        update={"endpoint": proxy.endpoint, "connect_timeout_s": 2, "request_timeout_s": 2, "attempts": 8}
    )


@pytest.fixture
def folder(s3: S3Server, storage: StorageConfig) -> Folder:
    return Folder(f"s3://{s3.bucket()}/faces", storage)


@pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=[pytest.mark.slow] if one == "hang" else []) for one in FAULTS]
)
def test_what_passes_costs_nothing(folder: Folder, proxy: FaultProxy, fault: str) -> None:
    sink = Fenced(folder.uri, folder.storage, 1)
    proxy.faults = {fault: 0.2 if fault == "hang" else 0.3}
    for number in range(6):
        sink.write(f"{number}.jpg", PICTURE)
        assert fetch(f"{folder.uri}/{number}.jpg", folder.storage, 10**9) == PICTURE
    assert sorted(entry.name for entry in folder.list()) == [f"{number}.jpg" for number in range(6)]
    assert proxy.seen[fault], "the network was to fail now and then"


def test_an_answer_that_is_lost_does_not_lose_the_lease(folder: Folder, proxy: FaultProxy) -> None:
    """The file was made, but its maker heard nothing of it, and asks again."""
    proxy.faults = {"cut": 0.4}
    for token in range(1, 5):
        lease = take(folder, print)
        assert lease.token == token
        with pytest.raises(SinkInUseError):
            take(folder, print)
        lease.release()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_stays_is_the_rows_own_failure(folder: Folder, proxy: FaultProxy, fault: str) -> None:
    hasty = folder.storage.model_copy(update={"request_timeout_s": 0.5, "attempts": 2})
    folder.write("0.jpg", PICTURE)
    proxy.faults = {fault: 1.0}
    with pytest.raises(RejectError) as caught:
        fetch(f"{folder.uri}/0.jpg", hasty, 10**9)
    assert caught.value.kind == RejectKind.FETCH_FAILED
    if fault != "cut":  # of a write, the first line of the answer is enough
        with pytest.raises(OSError, match="AWS Error"):
            Folder(folder.uri, hasty).create("a", b"")
