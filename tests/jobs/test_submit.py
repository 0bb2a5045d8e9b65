"""`ray job submit` against a running Ray head with token authentication, as the README says."""

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.batch.conftest import rows_of
from tests.tiny import save_random_model
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
# What a cluster's own environment decides for the process under test must not come from the tests' environment.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Head:
    """A running head.

    Attributes:
        address: of the cluster.
        jobs: where jobs are submitted to.
        environment: of whoever holds the token.
    """

    address: str
    jobs: str
    environment: dict[str, str]


@contextmanager
def running_head(home: Path) -> Iterator[Head]:
    """A Ray head with a token, as `ray start` makes one."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    port, jobs_port = free_port(), free_port()
    words = [
        "--head",
        f"--port={port}",
        f"--dashboard-port={jobs_port}",
        f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--temp-dir={home}",
        "--num-cpus=4",
        "--disable-usage-stats",
        "--block",
    ]
    # The cluster's machines have the dependencies: `python` there is the one that runs this test.
    environment = {**CLEAN, **token, "PATH": f"{RAY.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [RAY, "start", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    found = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs_port}", environment)
    try:
        wait_for(found.jobs, environment)
        yield found
    finally:
        process.terminate()  # `--block` takes the cluster down with it
        process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """(the address jobs are submitted to, the environment of whoever holds the token)."""
    with running_head(tmp_path_factory.mktemp("ray")) as found:
        yield found.jobs, found.environment


def submit(address: str, environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Submit the caption job from the repository's root, and wait for it."""
    line = [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", "python", "jobs/caption.py", *words]
    return subprocess.run(line, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=280)


def wait_for(head: str, environment: dict[str, str]) -> None:
    for _ in range(30):
        line = [RAY, "job", "list", "--address", head]
        if subprocess.run(line, env=environment, capture_output=True).returncode == 0:
            return
    raise AssertionError("the Ray head does not answer")


@pytest.mark.slow
def test_a_submitted_job_captions_and_says_so(
    head: tuple[str, dict[str, str]], portraits: list[bytes], tmp_path: Path
) -> None:
    address, environment = head
    source, sink = Folder(str(tmp_path / "faces"), StorageConfig()), Folder(str(tmp_path / "out"), StorageConfig())
    for number, data in enumerate(portraits):
        source.write(f"{number:02d}.jpg", data)
    source.write("broken.jpg", b"")
    model = save_random_model(tmp_path / "model")
    settings = (f"source.path={source.uri}", f"sink.path={sink.uri}", f"model.path={model}", "task.max_new_tokens=5")

    done = submit(address, environment, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rejected" in done.stdout
    assert "Ray cluster" in done.stdout, "the job should join the cluster, not start a Ray of its own"
    counts = json.loads(sink.read("manifest.json"))["counts"]
    assert counts == {"input": len(portraits) + 1, "ok": len(portraits), "rejected": 1, "pending": 0, "rows_out": 20}
    assert len(rows_of(sink, "ok")) == len(portraits)

    mistaken = submit(address, environment, f"source.path={tmp_path}/nowhere", f"sink.path={sink.uri}2")
    assert mistaken.returncode != 0
    assert "source.path" in mistaken.stdout
    assert "Traceback" not in mistaken.stdout


@pytest.mark.slow
def test_nobody_gets_in_without_the_token(head: tuple[str, dict[str, str]]) -> None:
    address, environment = head
    stranger = {**environment, "RAY_AUTH_TOKEN": "0" * 64}
    refused = submit(address, stranger, "source.path=/nowhere", "sink.path=/nowhere")
    assert refused.returncode != 0
    assert "source.path" not in refused.stdout
