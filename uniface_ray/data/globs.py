"""Patterns in `source.path`: `*`, `?` and `[a-z]` within a name, `**` for any number of folders."""

import re

from uniface_ray.core.errors import UserError

_MAGIC = re.compile(r"[*?\[]")


def split_pattern(address: str) -> tuple[str, str]:
    """An address -> the folder above its first pattern, and the rest; empty where it has no pattern."""
    parts = address.split("/")
    plain = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return "/".join(parts[:plain]) or "/", "/".join(parts[plain:])


def pattern_of(glob: str) -> re.Pattern[str]:
    """What whole relative names must match; a pattern that ends in `/` takes all that is below.

    Raises:
        UserError: a range that goes backwards, as in [z-a].
    """
    parts = [part for part in (f"{glob}**" if glob.endswith("/") else glob).split("/") if part]
    *folders, last = parts
    found = "".join("(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    try:
        return re.compile(found + ("(?:[^/]+/)*[^/]+" if last == "**" else _part(last)), re.DOTALL)
    except re.error as error:
        raise UserError(f"source.path has the pattern {glob!r}, which makes no sense: {error}") from error


def _part(glob: str) -> str:
    """The expression of one name."""
    found, i = "", 0
    while i < len(glob):
        end = glob.find("]", i + 3 if glob[i + 1 : i + 2] == "!" else i + 2)
        if glob[i] == "*":
            found += "[^/]*"
        elif glob[i] == "?":
            found += "[^/]"
        elif glob[i] == "[" and end > 0:
            inside = glob[i + 1 : end]
            no = "^" * inside.startswith("!")
            ranges = re.escape(inside[len(no) :]).replace("\\-", "-")
            found += f"(?!/)[{no}{ranges}]"
            i = end
        else:  # an opening bracket that nothing closes stands for itself
            found += re.escape(glob[i])
        i += 1
    return found
