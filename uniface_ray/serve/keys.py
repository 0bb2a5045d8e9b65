"""API keys: the server knows their SHA-256 only. `python -m uniface_ray.serve.keys NAME` makes one.

A key is 32 random bytes, so nobody guesses it from its digest, and a fast hash is enough: slow ones (scrypt, bcrypt)
are for passwords, which people choose.
"""

import hashlib
import hmac
import ipaddress
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from uniface_ray.core.errors import UserError
from uniface_ray.core.guard_config import KEY_LINE, RIGHTS, GuardSettings

ENVIRONMENT = "UNIFACE_API_KEYS"
MAKE_KEY = "python -m uniface_ray.serve.keys NAME"


@dataclass(frozen=True, slots=True)
class Key:
    """What the server knows of a key.

    Attributes:
        name: of its holder, for limits, logs and whose files are whose.
        digest: SHA-256 of the key.
        rights: what it may do, of `RIGHTS`.
    """

    name: str
    digest: bytes
    rights: frozenset[str] = frozenset(RIGHTS)


NOBODY = Key("anonymous", b"")
"""Whoever asks a server without keys."""


class Keys:
    """The keys of a server; empty lets everybody in.

    Args:
        lines: `name=digest` or `name=digest:right+right`, as `GuardSettings.keys`.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._keys = [_read(line) for line in lines]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, presented: str) -> Key | None:
        """The key that somebody shows; None where it is none of ours. A near miss takes as long as a far one."""
        digest = hashlib.sha256(presented.encode("utf-8", "replace")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def make_key(name: str) -> tuple[str, str]:
    """(a new key, the line that lets it in)."""
    key = f"uf-{secrets.token_urlsafe(32)}"
    return key, f"{name}={hashlib.sha256(key.encode()).hexdigest()}"


def with_environment(settings: GuardSettings, environment: Mapping[str, str]) -> GuardSettings:
    """The settings with the keys of UNIFACE_API_KEYS among theirs.

    Raises:
        UserError: one of them is written wrong, or two have the same name.
    """
    lines = [line.strip() for line in environment.get(ENVIRONMENT, "").split(",")]
    try:
        merged = GuardSettings(**{**settings.model_dump(), "keys": [*settings.keys, *filter(None, lines)]})
    except ValidationError as error:
        raise UserError(f"{ENVIRONMENT}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    names = [line.partition("=")[0] for line in merged.keys]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"guard.keys and {ENVIRONMENT} give two keys the name {', '.join(sorted(twice))}: what is kept for one "
            "would be the other's as well; give each a name of its own"
        )
    return merged


def check_open(settings: GuardSettings, host: str) -> None:
    """Refuse to let the whole network in by mistake.

    Raises:
        UserError: no keys, and the server would listen on more than this machine's loopback.
    """
    if not settings.keys and not settings.open and not is_loopback(host):
        raise UserError(
            f"serve.host={host} can be reached from other machines, and there are no API keys: make one with "
            f"`{MAKE_KEY}` and give its line in guard.keys or {ENVIRONMENT}; or let everybody in with guard.open=true"
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(line: str) -> Key:
    found = KEY_LINE.fullmatch(line)
    assert found  # the settings are checked
    rights = frozenset(found["rights"].split("+")) if found["rights"] else frozenset(RIGHTS)
    return Key(found["name"], bytes.fromhex(found["digest"]), rights)


def main(words: list[str]) -> int:
    """Print a new key, and how to let it in."""
    name = words[0] if len(words) == 1 else ""
    key, line = make_key(name)
    if not KEY_LINE.fullmatch(line):
        print(f"usage: {MAKE_KEY}, of letters, digits, - and _", file=sys.stderr)
        return 2
    print(f"The key, shown this once; its holder sends it as a bearer token (OPENAI_API_KEY):\n\n  {key}\n")
    print(f"What the server needs to let it in:\n\n  uniface serve 'guard.keys=[{line}]'\n  {ENVIRONMENT}={line}\n")
    print(f"A line that ends in `:right+right` allows only that much of {', '.join(RIGHTS)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


__all__ = ["MAKE_KEY", "NOBODY", "Key", "Keys", "check_open", "is_loopback", "make_key", "with_environment"]
