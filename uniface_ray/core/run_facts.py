"""What the manifests of all kinds of runs say alike: settings without secrets, versions, and what a sink is of."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from uniface_ray.core.errors import UserError
from uniface_ray.core.settings import Settings
from uniface_ray.core.storage import Folder
from uniface_ray.core.version import __version__

MANIFEST = "manifest.json"
REDACTED = "(set)"
_SECRETS = ("access_key", "secret_key", "session_token")
_LIBRARIES = ("ray", "torch", "transformers", "pyarrow")


def redacted(config: Settings) -> dict[str, Any]:
    """The config as the manifest and the report show it: without secrets."""
    document = config.model_dump(mode="json")
    for name in _SECRETS:
        if document["storage"][name] is not None:
            document["storage"][name] = REDACTED
    return document


def versions() -> dict[str, str]:
    """Of the code and of what it runs on."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"uniface_ray": __version__, "python": platform.python_version(), **libraries}


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_document(sink: Folder) -> dict[str, Any]:
    """manifest.json; empty where there is none.

    Raises:
        UserError: it is no JSON.
    """
    try:
        document: dict[str, Any] = json.loads(sink.read(MANIFEST))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{MANIFEST} in {sink.uri!r} is not JSON ({error}): use another sink.path") from error
    return document


def check_same(old: dict[str, Any], new: dict[str, Any], sink: Folder, ignored: set[str]) -> None:
    """Refuse a sink of another run.

    Args:
        old: the identity that the sink holds.
        new: that of the run which begins.
        sink: for the message.
        ignored: names that may differ, as in `run.seed`.

    Raises:
        UserError: what differs, name by name.
    """
    before, after = _flat(old), _flat(new)
    different = [
        f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in sorted((before.keys() | after.keys()) - ignored)
        if before.get(name) != after.get(name)
    ]
    if different:
        raise UserError(
            f"sink.path is {sink.uri!r}, which holds another run: {'; '.join(different)}. Use another sink.path, or "
            "the old settings to resume it"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
