"""The command of our pipeline that does a batch's run, as it is typed."""

import sys

from uniface_ray.core.config import ModelConfig, StorageConfig
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.settings import Settings
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_lines import Endpoint, as_typed

# Of each endpoint: the command of its runs, and where these find what the lines say.
_RUNS: dict[Endpoint, tuple[str, ...]] = {
    "/v1/chat/completions": ("vqa", "source.question_column=question", "source.keep_columns=[custom_id,stops]"),
    "/v1/images/generations": ("generate", "source.prompt_column=prompt", "source.keep_columns=[custom_id]"),
    "/v1/images/edits": ("edit", "source.prompt_column=prompt", "source.keep_columns=[custom_id]"),
}
SECRETS = ("access_key", "secret_key", "session_token")


def command_line(
    config: ServeConfig,
    endpoint: Endpoint,
    folder: Folder,
    home: str,
    model: ModelConfig,
    typed: tuple[str, ...],
) -> list[str]:
    """`uniface vqa ...`, `uniface generate ...` or `uniface edit ...`.

    Args:
        config: of the server, whose storage, engine and limits of decoding hold here too.
        endpoint: of the lines.
        folder: of all owners.
        home: of the run, inside it.
        model: as jobs name it.
        typed: settings of the lines.
    """
    command, *columns = _RUNS[endpoint]
    return [
        sys.executable,
        "-m",
        "uniface_ray.serve.batch_run",
        command,
        f"source.path={folder.uri}/{home}/source",
        "source.format=parquet",
        f"sink.path={folder.uri}/{home}/sink",
        f"model.name={model.name}",
        f"model.path={model.path}",
        *([f"model.adapter={model.adapter}"] if model.adapter else []),
        *columns,
        "source.seed_column=seed",
        *typed,
        *_typed("storage", config.storage, SECRETS),
        *_typed("decode", config.decode),
        *_typed("engine", config.engine, ("replicas", "kind")),
        "engine.replicas=1",  # as many as pay would take the server's cores
        # A job finds the cluster that runs it; beside a server, a run has a Ray of its own.
        f"cluster.address={'auto' if config.files.jobs else 'local'}",
        "report.images=false",
    ]


def secrets_of(storage: StorageConfig) -> dict[str, str]:
    """What of the storage's settings nobody must read in a list of processes, as environment variables."""
    named = {
        "AWS_ACCESS_KEY_ID": storage.access_key,
        "AWS_SECRET_ACCESS_KEY": storage.secret_key,
        "AWS_SESSION_TOKEN": storage.session_token,
    }
    return {name: value for name, value in named.items() if value}


def _typed(group: str, settings: Settings, but: tuple[str, ...] = ()) -> list[str]:
    """Settings that are not as they are by default."""
    default = type(settings)()
    return [
        f"{group}.{name}={as_typed(value)}"
        for name, value in settings.model_dump().items()
        if name not in but and value != getattr(default, name)
    ]


__all__ = ["SECRETS", "command_line", "secrets_of"]
