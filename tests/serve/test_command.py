"""Mistakes of `uniface serve`: told at once, before Ray starts."""

import socket
import sys
from pathlib import Path

import pytest

from uniface_ray.cli import main
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.serve.command import did_not_start


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails


def told(capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    assert main("serve", ["cluster.address=local", *settings]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert "Traceback" not in out.err
    return out.err


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"serve.port={port} cannot be listened on" in told(capsys, f"serve.port={port}")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["model.path=/no/such/model"], "/no/such/model"),
        (["serve.models=[uniface-tiny=x]"], "a name of its own"),
        (["serve.models=[a b=x]"], "serve.models"),
        (["engine.kind=openai"], "serve runs models of its own"),
        (["serve.host=0.0.0.0"], "guard.keys"),
        (["serve.prot=1"], "Did you mean serve.port"),
        (["files.path=/proc/files"], "files.path"),
        (["files.path=out/files", "files.jobs=http://127.0.0.1:1"], "no Ray cluster's job API answers"),
        (["engine.replicas=3", "cluster.num_cpus=2"], "cluster.num_cpus is 2"),
    ],
)
def test_other_mistakes(settings: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert what in told(capsys, "serve.port=18417", *settings)


@pytest.mark.parametrize(
    ("last", "kind", "what"),
    [
        (
            "uniface_ray.core.errors.UserError: model.path is 'x', and\nthat is wrong",
            UserError,
            "model.path is 'x', and",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory", UniFaceError, "did not start: torch.OutOfMemoryError: CUDA out"),
    ],
)
def test_why_replicas_do_not_start(last: str, kind: type[UniFaceError], what: str) -> None:
    message = f"""\
The deployment failed to start 3 times in a row. See controller logs for details. Error:
ray::ServeReplica:uniface:model-x.initialize_and_get_metadata() (pid=1, ip=127.0.0.1)
  File "replica.py", line 1, in initialize
RuntimeError: Traceback (most recent call last):
  File "deployment.py", line 2, in __init__
{last}
"""
    told = did_not_start(RuntimeError("Failed to update the deployments ['door']."), ["", message])
    assert type(told) is kind
    assert what in str(told)
    assert "Traceback" not in str(told)
    plain = did_not_start(RuntimeError("Failed to update the deployments ['door']."), ["Updating."])
    assert str(plain) == "the server did not start: Failed to update the deployments ['door']."


def test_weights_that_are_cut_short(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:-100] if file.suffix == ".safetensors" else data)
    assert "cannot be read as safetensors" in told(capsys, f"model.path={tmp_path}")
