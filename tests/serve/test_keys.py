"""API keys, and who may listen to everybody."""

import os
import subprocess
import sys

import pytest

from uniface_ray.core.compose import compose
from uniface_ray.core.errors import UserError
from uniface_ray.core.guard_config import RIGHTS, GuardSettings
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.serve.keys import Keys, check_open, is_loopback, make_key, with_environment


def test_only_the_key_itself_opens() -> None:
    (first, line), (second, other) = make_key("ann"), make_key("bob")
    assert first != second
    keys = Keys([line, f"{other}:chat+batch"])
    ann, bob = keys.find(first), keys.find(second)
    assert ann
    assert bob
    assert (ann.name, ann.rights) == ("ann", frozenset(RIGHTS))
    assert (bob.name, bob.rights) == ("bob", {"chat", "batch"})
    digest = line.partition("=")[2]
    for wrong in ("", first[:-1], first + "x", first.upper(), digest, line, "\ud800", "ü"):
        assert keys.find(wrong) is None
    assert first not in repr(keys.__dict__)


def test_no_keys_are_false_and_nobody_is_found() -> None:
    assert not Keys([])
    assert Keys([]).find("") is None


@pytest.mark.parametrize("line", ["ann", "ann=abc", f"an n={'0' * 64}", f"ann={'0' * 64}:fly", f"ann={'A' * 64}"])
def test_a_line_that_is_no_key_is_told_without_showing_it(line: str) -> None:
    with pytest.raises(UserError, match=r"guard\.keys: ") as error:
        compose("serve", [f"guard.keys=[{line}]"], ServeConfig)
    assert line not in str(error.value)
    with pytest.raises(UserError, match="UNIFACE_API_KEYS: "):
        with_environment(GuardSettings(), {"UNIFACE_API_KEYS": line})


def test_keys_of_the_environment_come_beside_those_of_the_settings() -> None:
    lines = [make_key(name)[1] for name in ("ann", "bob", "eve")]
    merged = with_environment(GuardSettings(keys=(lines[0],)), {"UNIFACE_API_KEYS": f" {lines[1]},{lines[2]}, "})
    assert merged.keys == tuple(lines)
    with pytest.raises(UserError, match="two keys the name ann"):
        with_environment(merged, {"UNIFACE_API_KEYS": make_key("ann")[1]})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "faces.example.com", ""])
def test_a_public_address_needs_keys(host: str) -> None:
    with pytest.raises(UserError, match=r"there are no API keys.*guard\.open=true"):
        check_open(GuardSettings(), host)
    check_open(GuardSettings(open=True), host)
    check_open(GuardSettings(keys=(make_key("ann")[1],)), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    check_open(GuardSettings(), host)


def test_the_command_makes_a_key_that_works() -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "uniface_ray.serve.keys", *words]
        return subprocess.run(line, text=True, capture_output=True, env={**os.environ})

    told = run("ann").stdout.split()
    key = next(word for word in told if word.startswith("uf-"))
    line = next(word for word in told if word.startswith("UNIFACE_API_KEYS=")).partition("=")[2]
    found = Keys([line]).find(key)
    assert found
    assert found.name == "ann"
    assert run("a b").returncode == 2
    assert run().returncode == 2
