"""The files of conf/: their groups, and what each setting means.

A setting is one line of a group's file, `name: default  # meaning`, so that a reader of conf/, the help and
the error messages all use the same words. A file may stand on another of its group (`defaults: [default, _self_]`).
In a command's file, `- source: default  # or demo` names the files that fit the command, `# only` says that no other
does; where nothing is said, all do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PICK = re.compile(r"^  - (?P<group>\w+): (?P<member>[\w-]+)(?:  # (?P<choices>.+))?$", re.MULTILINE)
_BASE = re.compile(r"^  - (?P<member>(?!_self_)\S+)$", re.MULTILINE)
_SETTING = re.compile(r"^(?P<name>\w+): (?P<default>.*?)  # (?P<meaning>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: as it is typed, `source.path`.
        default: as YAML; `???` where the user must say.
        meaning: a line for the user.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Group:
    """One group of settings of a command.

    Attributes:
        name: `source`.
        title: a line for the user.
        member: the file that is taken.
        choices: the files of the group that fit the command; `source=demo` picks one.
        settings: in the file's order, those of the file it stands on first.
    """

    name: str
    title: str
    member: str
    choices: tuple[str, ...]
    settings: tuple[Setting, ...]


def conf_folder() -> Path:
    """conf/: inside the installed package, else beside it in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def groups_of(command: str, picked: Mapping[str, str] | None = None) -> tuple[Group, ...]:
    """The groups of a command, in the order of `conf/<command>.yaml`.

    Args:
        command: its name.
        picked: member of a group that is taken instead of the command's own, where it fits: its settings count then.
    """
    text = (conf_folder() / f"{command}.yaml").read_text(encoding="utf-8")
    return tuple(
        _group(pick["group"], pick["member"], pick["choices"], (picked or {}).get(pick["group"]))
        for pick in _PICK.finditer(text)
    )


def _group(name: str, member: str, choices: str | None, picked: str | None) -> Group:
    folder = conf_folder() / name
    title = (folder / f"{member}.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").rstrip(".")
    if choices is None:
        members = sorted(file.stem for file in folder.glob("*.yaml"))
    else:
        members = [member, *choices.removeprefix("only").removeprefix("or ").replace(",", " ").split()]
    taken = picked if picked in members else member
    return Group(name, title, taken, tuple(members), tuple(_settings(name, taken).values()))


def _settings(group: str, member: str) -> dict[str, Setting]:
    text = (conf_folder() / group / f"{member}.yaml").read_text(encoding="utf-8")
    base = _BASE.search(text)
    settings = _settings(group, base["member"]) if base else {}
    for found in _SETTING.finditer(text):
        setting = Setting(f"{group}.{found['name']}", found["default"], found["meaning"])
        settings[setting.name] = setting
    return settings
