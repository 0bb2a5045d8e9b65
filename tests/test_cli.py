import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from uniface_ray import cli
from uniface_ray.core.compose import compose
from uniface_ray.core.conf import groups_of
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import SinkInUseError, StoppedError, UserError
from uniface_ray.core.evaluate_config import EvaluateJobConfig
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.sink_config import ReplayConfig, StatusConfig, VerifyConfig
from uniface_ray.core.task_config import TASK_CONFIGS
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.core.version import __version__

ROOT = Path(__file__).parents[1]
SCHEMAS = {  # the others are jobs
    "status": StatusConfig,
    "verify": VerifyConfig,
    "replay-rejects": ReplayConfig,
    "serve": ServeConfig,
    "evaluate": EvaluateJobConfig,
    "train": TrainConfig,
}


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_uniface_alone_tells_what_to_type(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv=argv) == 0
    out = capsys.readouterr().out
    assert "uniface caption source=demo sink.path=out/demo" in out
    assert "uniface caption --help" in out


def test_help_into_a_pipe_that_closes_early_is_no_fault_of_ours() -> None:
    command = f"{shlex.quote(sys.executable)} -m uniface_ray.cli caption --help | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_names_every_setting_with_its_default_and_meaning(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command, ["source=demo", "--help"]) == 0
    out = capsys.readouterr().out
    told = " ".join(out.split())
    for group in groups_of(command):
        for setting in group.settings:
            default = setting.default.replace("???", "required")
            assert f"{setting.name} {default} {setting.meaning}" in told
    assert all(settings in out for settings, _ in cli.COMMANDS[command].examples)
    assert max(map(len, out.splitlines())) <= 140


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv=["--version"]) == 0
    assert capsys.readouterr().out == f"uniface {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["captoin"], "captoin: no such command; there is caption"),
        (["caption"], "source.path is missing"),
        (["caption", "source=demo", "sink.path=o", "engine.batch_size=0"], "engine.batch_size=0"),
    ],
)
def test_a_mistake_is_one_message_without_traceback(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv=argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("uniface: ")
    assert told in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "code", "traceback"),
    [
        (UserError("no such bucket"), 2, False),
        (StoppedError("too many rejects"), 3, False),
        (SinkInUseError("busy"), 4, False),
        (KeyboardInterrupt(), 130, False),
        (ValueError("a bug"), 1, True),
    ],
)
def test_errors_have_their_exit_codes(
    error: BaseException,
    code: int,
    traceback: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(overrides: Sequence[str]) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "fail", cli.Command("fails", (), fail))
    assert cli.main("fail", []) == code
    err = capsys.readouterr().err
    assert str(error) in err
    assert ("Traceback" in err) is traceback
    assert ("please report" in err) is traceback


def test_the_command_s_exit_code_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "stop", cli.Command("stops", (), lambda overrides: len(overrides)))
    monkeypatch.setattr(sys, "argv", ["uniface", "stop", "a", "b", "c"])
    with pytest.raises(SystemExit) as stopped:
        cli.entry()
    assert stopped.value.code == 3


def test_help_and_mistakes_do_not_wait_for_torch_and_ray() -> None:
    script = (
        "import sys; from uniface_ray.cli import main; main('caption', ['--help']); "
        "main('caption', ['engine.batch=1']); sys.exit(bool({'torch', 'ray'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)


def test_the_job_script_runs_the_code_and_conf_beside_it(tmp_path: Path) -> None:
    """As a cluster unpacks it: not installed, and from a folder that is not the current one."""
    code = tmp_path / "code"
    for folder in ("jobs", "conf", "uniface_ray/core"):
        shutil.copytree(ROOT / folder, code / folder)
    for file in ("uniface_ray/__init__.py", "uniface_ray/cli.py", "uniface_ray/commands.py"):
        shutil.copy(ROOT / file, code / file)
    sink = code / "conf/sink/default.yaml"
    sink.write_text(sink.read_text().replace("# Where to write.", "# Where this copy writes."))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = [sys.executable, str(code / "jobs/caption.py")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    helped = subprocess.run([*job, "--help"], cwd=elsewhere, env=environment, text=True, capture_output=True)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Where this copy writes" in helped.stdout

    wrong = subprocess.run([*job, "run.sead=1"], cwd=elsewhere, env=environment, text=True, capture_output=True)
    assert wrong.returncode == 2
    assert "Did you mean run.seed" in wrong.stderr
    assert list(elsewhere.iterdir()) == []


def _examples() -> list[tuple[str, str]]:
    """(command, settings) of all that the help, the README, docs/ and the Makefile tell people to type."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "Makefile"]
    texts = [page.read_text().replace("\\\n", " ") for page in pages]
    pattern = rf"(?:uniface |jobs/)({'|'.join(cli.COMMANDS)})(?:\.py)? (.*=.*)"
    typed = [found for text in texts for found in re.findall(pattern, text)]
    return typed + [(name, settings) for name, command in cli.COMMANDS.items() for settings, _ in command.examples]


@pytest.mark.parametrize(("command", "settings"), _examples())
def test_what_people_are_told_to_type_composes(command: str, settings: str) -> None:
    words = shlex.split(settings)
    finished = [f"source.path={word.partition('=')[2]}" for word in words if word.startswith("evaluate.run=")]
    compose(command, [*words, *finished], SCHEMAS.get(command, JobConfig))


@pytest.mark.parametrize("command", [*TASK_CONFIGS, "evaluate", "serve"])
def test_every_task_has_a_script_to_submit(command: str) -> None:
    helped = subprocess.run([sys.executable, ROOT / f"jobs/{command}.py", "-h"], text=True, capture_output=True)
    assert helped.stdout.startswith(f"uniface {command}: ")
