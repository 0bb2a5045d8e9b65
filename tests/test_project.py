"""Rules that hold for every file of the project."""

import re
import shlex
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from uniface_ray.core.compose import compose

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "benchmarks", "conf", "docs", "jobs", "tests", "uniface_ray")
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".html", ""}
# Hosts that may be named: of examples, of papers, of licences and of XML namespaces.
HOSTS = {
    "cv.iptc.org",
    "iptc.org",
    "ns.adobe.com",
    "example.com",
    "head:8265",
    "host:9000",
    "localhost:8000",
    "localhost:9",
    "localhost:9000",
    "no-such-host.invalid",
    "a:99999",
    "arxiv.org",
    "creativecommons.org",
    "www.apache.org",
    "www.w3.org",
}


def _files() -> list[Path]:
    inside = chain.from_iterable((ROOT / folder).rglob("*") for folder in FOLDERS)
    files = [file for file in chain(ROOT.iterdir(), inside) if file.is_file() and file.suffix in TEXT]
    return [file for file in files if file.name != ".git" and "__pycache__" not in file.parts]


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def test_imports_go_one_way() -> None:
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(lint, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_is_short() -> None:
    lengths = {_name(file): len(file.read_bytes().splitlines()) for file in _files() if file.suffix == ".py"}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_only_known_hosts_are_named() -> None:
    named = {
        host: _name(file)
        for file in _files()
        for host in re.findall(r"https?://([\w.-]+\.[a-z]{2,}|[\w-]+:\d+)", file.read_text(errors="replace"))
        if host not in HOSTS and not host.endswith(".example.com")
    }
    assert named == {}


def test_the_project_speaks_only_of_itself() -> None:
    pattern = re.compile(r"\.\./shared|/wo[r]k/|\bTO[D]O\b|\bFIX[M]E\b|\bissue \d")
    spoken = {
        _name(file): found[0]
        for file in _files()
        if (found := pattern.search(file.read_text(errors="replace"))) and file != Path(__file__)
    }
    assert spoken == {}


@pytest.mark.parametrize("extra", [None, "evaluate", "huggingface", "identity", "openai", "peft", "test", "e2e", "dev"])
def test_constraints_pin_what_the_project_asks_for(extra: str | None) -> None:
    project, pins = _project(), _pins()
    for text in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        wanted = Requirement(text)
        if wanted.name == project["name"]:  # its own extras
            continue
        (pin,) = pins[canonicalize_name(wanted.name)].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version)


def test_the_kuberay_job_says_what_the_command_line_says() -> None:
    manifest = yaml.safe_load((ROOT / "jobs/rayjob.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = manifest["spec"], manifest["spec"]["rayClusterSpec"]
    workers = cluster["workerGroupSpecs"][0]

    python, script, *overrides = shlex.split(spec["entrypoint"])
    assert python == "python"
    assert (ROOT / script).is_file()
    config = compose("caption", overrides)
    assert config.engine.replicas == (workers["minReplicas"], workers["maxReplicas"])
    assert config.source.path.startswith("s3://")
    assert config.sink.path.startswith("s3://")

    ray = next(iter(_pins()["ray"].specifier)).version
    assert cluster["rayVersion"] == ray
    for group in (cluster["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == f"rayproject/ray:{ray}-py311-gpu"
        assert container["envFrom"] == [{"secretRef": {"name": "uniface-s3"}}]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"] is True

    wanted = {canonicalize_name(Requirement(text).name) for text in _project()["dependencies"]} - {"ray"}
    given = [Requirement(text) for text in yaml.safe_load(spec["runtimeEnvYAML"])["pip"]]
    assert {canonicalize_name(pin.name) for pin in given} == wanted
    assert all(pin == _pins()[canonicalize_name(pin.name)] for pin in given)
