"""The settings of a command as help text."""

import shutil
import textwrap

from uniface_ray.core.conf import Group, Setting, groups_of

_NAME, _INDENT = 26, 42


def settings_help(command: str) -> str:
    """Every setting of a command in its group: name, default, meaning; 80 to 140 columns, as the terminal."""
    width = max(80, min(shutil.get_terminal_size((110, 24)).columns, 140))
    return "\n\n".join(_group(group, width) for group in groups_of(command))


def _group(group: Group, width: int) -> str:
    others = [f"{group.name}={choice}" for choice in group.choices if choice != "default"]
    ready = f" (ready-made: {', '.join(others)})" if len(group.choices) > 1 else ""
    return "\n".join([f"{group.name}: {group.title}{ready}", *(_setting(s, width) for s in group.settings)])


def _setting(setting: Setting, width: int) -> str:
    default = "required" if setting.default == "???" else setting.default
    head = f"  {setting.name:<{_NAME}} {default}"
    if len(head) < _INDENT:
        return textwrap.fill(f"{head:<{_INDENT}}{setting.meaning}", width, subsequent_indent=" " * _INDENT)
    indent = " " * _INDENT
    return f"{head}\n{textwrap.fill(setting.meaning, width, initial_indent=indent, subsequent_indent=indent)}"
