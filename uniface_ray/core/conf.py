"""The files of conf/: their groups, and what each setting means.

A setting is one line of a group's file, `name: default  # meaning`, so that a reader of conf/, the help and
the error messages all use the same words.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_PICK = re.compile(r"^  - (?P<group>\w+): (?P<member>\S+)$", re.MULTILINE)
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
        member: the file that is taken when the user picks none.
        choices: all files of the group; `source=demo` picks one.
        settings: in the file's order.
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


def groups_of(command: str) -> tuple[Group, ...]:
    """The groups of a command, in the order of `conf/<command>.yaml`."""
    text = (conf_folder() / f"{command}.yaml").read_text(encoding="utf-8")
    return tuple(_group(pick["group"], pick["member"]) for pick in _PICK.finditer(text))


def _group(name: str, member: str) -> Group:
    folder = conf_folder() / name
    text = (folder / f"{member}.yaml").read_text(encoding="utf-8")
    settings = (Setting(f"{name}.{s['name']}", s["default"], s["meaning"]) for s in _SETTING.finditer(text))
    choices = sorted(file.stem for file in folder.glob("*.yaml"))
    title = text.splitlines()[0].removeprefix("# ").rstrip(".")
    return Group(name, title, member, tuple(choices), tuple(settings))
