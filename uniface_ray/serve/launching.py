"""How the process that works on a batch is started: beside the server, or as a job of a Ray cluster."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.serve.batch_command import SECRETS, secrets_of
from uniface_ray.serve.batch_folder import BatchFolder


def words_of(batch: BatchFolder, attempt: int) -> list[str]:
    """The command line of the process."""
    folder = batch.folder
    storage = folder.storage.model_dump_json(exclude=set(SECRETS), exclude_defaults=True)
    return ["-m", "uniface_ray.serve.batch_work", folder.uri, storage, batch.owner, batch.id, str(attempt)]


class Processes:
    """Starts processes on this machine. They outlive the server, which finds them at work when it comes back.

    Args:
        config: of the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, batch: BatchFolder, attempt: int) -> None:
        """Start one."""
        self._started = [one for one in self._started if one.poll() is None]  # those that ended are no zombies then
        with _log_of(batch) as log:
            process = subprocess.Popen(
                [sys.executable, *words_of(batch, attempt)],
                env={**_without_ray(), **secrets_of(self._config.storage)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)


def _log_of(batch: BatchFolder) -> IO[bytes]:
    """Beside the batch; of one in a bucket a file without a name, which the process puts there when it ends."""
    if batch.folder.is_local:
        return (Path(batch.folder.uri) / batch.home / "log.txt").open("ab")
    return tempfile.TemporaryFile("a+b")


def _without_ray() -> dict[str, str]:
    """The environment without what a server inside Ray has of it: the run starts a Ray of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


class RayJobs:
    """Starts jobs of a Ray cluster, which has this package installed.

    Args:
        config: of the server; `files.jobs` is the cluster's job API.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config

    def start(self, batch: BatchFolder, attempt: int) -> None:
        """Submit one."""
        from ray.job_submission import JobSubmissionClient  # takes seconds, and only clusters need it

        secrets = secrets_of(self._config.storage)
        named = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        JobSubmissionClient(self._config.files.jobs).submit_job(
            entrypoint=shlex.join(["python", *words_of(batch, attempt)]),
            submission_id=f"{batch.id}-{attempt}",
            runtime_env={"env_vars": {**named, **secrets}},
        )


__all__ = ["Processes", "RayJobs", "words_of"]
