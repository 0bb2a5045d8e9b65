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
    title = textwrap.fill(f"{group.name}: {group.title}{ready}", width, break_long_words=False, break_on_hyphens=False)
    return "\n".join([title, *(_setting(s, width) for s in group.settings)])


def _setting(setting: Setting, width: int) -> str:
    default = "required" if setting.default == "???" else setting.default
    head = f"  {setting.name:<{_NAME}} {default}"
    if len(head) < _INDENT:
        return _filled(f"{head:<{_INDENT}}{setting.meaning}", width)
    return f"{head}\n{_filled(' ' * _INDENT + setting.meaning, width)}"


def _filled(text: str, width: int) -> str:
    """Lines of a setting; what is to be copied is not broken."""
    indent = " " * _INDENT
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
