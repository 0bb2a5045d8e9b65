"""From what the user typed to the settings of a run.

Hydra picks the groups (`source=demo`); the values (`source.path=...`) never pass its parser, so that paths,
questions and prompts are literal: `=`, commas, quotes, brackets, `$`, `#` and spaces stand for themselves.
"""

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, overload

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from uniface_ray.core.conf import Group, Setting, conf_folder, groups_of
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.settings import Settings
from uniface_ray.core.task_config import TASK_CONFIGS

_MISSING = {
    "data.path": "say what to train on, as in data.path=out/tokens (uniface tokenize makes it)",
    "source.path": "say what to read, as in source.path=s3://bucket/faces/ (or try source=demo)",
    "sink.path": "say where to write, as in sink.path=out/captions or sink.path=s3://bucket/captions/",
}
_WORDS = (
    ("Input should", "must"),
    ("String should", "must"),
    ("Value error, ", ""),
    (", unable to parse", "\0"),
)
_Schema = TypeVar("_Schema", bound=Settings)


@overload
def compose(command: str, overrides: Sequence[str]) -> JobConfig: ...
@overload
def compose(command: str, overrides: Sequence[str], schema: type[_Schema]) -> _Schema: ...
def compose(command: str, overrides: Sequence[str], schema: type[Settings] = JobConfig) -> Settings:
    """The settings of `uniface <command> <overrides>`.

    Args:
        command: a file of conf/, `caption`.
        overrides: `group=member` picks a file of a group, `group.setting=value` sets a value. Text is
            literal; `null` unsets a setting that may be null; lists are written `[a,b]`. Later ones win.
        schema: of the command's settings.

    Raises:
        UserError: a setting or group member that does not exist, a value of the wrong type or outside its
            rule, a required setting that is missing. All wrong values are named at once.
    """
    picked = {name: text for name, _, text in (override.partition("=") for override in overrides)}
    groups = {group.name: group for group in groups_of(command, picked)}
    settings = {setting.name: setting for group in groups.values() for setting in group.settings}
    fields = {name: _field(name, schema, groups) for name in settings}
    picks: list[str] = []
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"{override}: a setting is written name=value, as in source.path=faces/")
        if name in groups:
            picks.append(_pick(groups[name], text))
        elif name in settings:
            values[name] = _value(name, fields[name], text)
        else:
            raise UserError(f"{name}: there is no such setting.{_nearest(name, [*settings, *groups])}")
    merged = _merged(command, picks, values)
    try:
        return schema.model_validate(merged)
    except ValidationError as error:
        # Not chained: pydantic's own text would show the values of secrets.
        raise UserError("\n".join(_explain(item, settings, fields) for item in error.errors())) from None


def _pick(group: Group, member: str) -> str:
    if member in group.choices:
        return f"{group.name}={member}"
    paths = [setting.name for setting in group.settings if setting.name == f"{group.name}.path"]
    mend = f"; for a path of your own type {paths[0]}={member}" if paths else ""
    raise UserError(f"{group.name}={member}: there is only {' and '.join(group.choices)} to pick from{mend}")


def _value(name: str, field: FieldInfo, text: str) -> Any:
    """What the schema shall judge: text as typed, or a list of texts; pydantic reads numbers and booleans."""
    annotation = field.annotation
    if text == "null" and NoneType in get_args(annotation):
        return None
    if _is_text(annotation):
        return text
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if text.startswith("["):
        return _list(name, text)
    return text


def _list(name: str, text: str) -> list[str]:
    """The items of `[a,b]`, each a text; one with a comma in it stands in double quotes, as in CSV or JSON."""
    try:
        items = json.loads(text)
        if all(isinstance(item, str) for item in items):
            return list(items)
    except ValueError:
        pass
    try:
        if not text.endswith("]"):
            raise csv.Error
        return [item.strip() for item in next(csv.reader([text[1:-1]], skipinitialspace=True, strict=True), [])]
    except csv.Error:
        raise UserError(
            f"{name}={text}: this list does not parse; write it as in {name}=[a,b], and an item that has a comma "
            f'in double quotes, as in {name}=["a, b",c]'
        ) from None


def _is_text(annotation: Any) -> bool:
    """Whether any text is right: `str`, or such a one that may be null, with rules of its own or without."""
    kinds = [kind for kind in get_args(annotation) or [annotation] if kind is not NoneType]
    return all((get_args(kind) or [kind])[0] is str for kind in kinds) and get_origin(annotation) is not tuple


def _field(name: str, schema: type[Settings], groups: Mapping[str, Group]) -> FieldInfo:
    group, setting = name.split(".")
    of_group: Any = TASK_CONFIGS[groups[group].member] if group == "task" else schema.model_fields[group].annotation
    field: FieldInfo = of_group.model_fields[setting]
    return field


def _merged(command: str, picks: list[str], values: dict[str, Any]) -> dict[str, Any]:
    """The picked files with the values over them; what the files leave open and nobody gave is absent."""
    merged: dict[str, Any] = deepcopy(_of_files(command, tuple(picks)))
    for name, value in values.items():
        group, setting = name.split(".")
        merged[group][setting] = value
    for group in merged.values():
        for name in ("path", "adapter"):
            if group.get(name):
                group[name] = absolute(group[name])
    return merged


@cache
def _of_files(command: str, picks: tuple[str, ...]) -> dict[str, Any]:
    """What the picked files say, which Hydra takes a sixth of a second to find; what they leave open is absent."""
    with initialize_config_dir(str(conf_folder()), version_base=None):
        config = hydra_compose(command, [*picks])
    said: Any = OmegaConf.to_container(config, resolve=True)
    for name in OmegaConf.missing_keys(config):
        group, setting = name.split(".")
        del said[group][setting]
    return said


def absolute(path: str) -> str:
    """A local path from the root, `~` expanded; anything with a scheme as it is."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return path
    return os.path.abspath(os.path.expanduser(path))


def _explain(error: ErrorDetails, settings: dict[str, Setting], fields: dict[str, FieldInfo]) -> str:
    if not error["loc"]:  # of several groups together
        return error["msg"].removeprefix("Value error, ")
    group, *rest = error["loc"]
    if group == "task":  # the schema has one for each task, and says which
        rest = rest[1:]
    name = ".".join(str(part) for part in (group, *rest[:1]))
    if error["type"] == "missing":
        return f"{name} is missing: {_MISSING.get(name, 'it has no default')}"
    rule = error["msg"]
    for theirs, ours in _WORDS:
        rule = rule.replace(theirs, ours)
    rule = rule.split("\0")[0].replace("a valid tuple", f"a list, as in {name}=[a,b]")
    setting = settings.get(name)
    if setting is None:
        return f"{name}: {rule}"
    shown = f"={error['input']}" if fields[name].repr else ""  # secrets are not told
    return f"{name}{shown}: {rule}. It means: {setting.meaning}; default {setting.default}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name.lstrip("-+~"), known, n=3, cutoff=0.6)
    return f" Did you mean {_either(near)}?" if near else " All settings: add --help"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
