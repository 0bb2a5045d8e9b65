"""The one door: `uniface <command> ...` and `python jobs/<command>.py ...` both come through `main`."""

import sys
import traceback
from collections.abc import Sequence

from uniface_ray.commands import COMMANDS, Command, tell
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.usage import settings_help
from uniface_ray.core.version import __version__

_EXIT_CODES = """\
Exit codes: 0 done (rejected rows allowed), 1 our fault, 2 a mistake in what was asked,
3 stopped and resumable, 4 the sink is in use, 5 verify found problems, 130 or 143 interrupted and
resumable.
To resume, run the same command again."""


def entry() -> None:
    """The console script `uniface`."""
    sys.exit(main())


def main(command: str | None = None, argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        command: its name; the first word of `argv` where None.
        argv: what was typed after the program's name; `sys.argv[1:]` where None.

    Returns:
        The exit code: 0, or that of the error (see `core.errors`), which is told on stderr.
    """
    try:
        return _answer(command, list(sys.argv[1:] if argv is None else argv))
    except UniFaceError as error:
        print(f"uniface: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("uniface: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print(f"uniface {__version__}: our fault; please report it with the lines above", file=sys.stderr)
        return 1


def _answer(command: str | None, words: list[str]) -> int:
    if command is None:
        if not words or words[0] in ("-h", "--help", "help"):
            tell(_overview())
            return 0
        if words[0] in ("-V", "--version"):
            tell(f"uniface {__version__}")
            return 0
        command = words.pop(0)
    if command not in COMMANDS:
        raise UserError(f"{command}: no such command; there is {', '.join(COMMANDS)} (see uniface --help)")
    if "-h" in words or "--help" in words:
        tell(_help(command))
        return 0
    return COMMANDS[command].run(words)


def _overview() -> str:
    commands = [f"  {name:<15}{command.summary}" for name, command in COMMANDS.items()]
    tries = [f"  uniface {name} {command.examples[0][0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"uniface {__version__}: captions, answers and generated faces by the million, on Ray.",
            "Every row is accounted for, and an interrupted run goes on where it stopped.",
            "\nCommands:",
            *commands,
            "\nTry:",
            *tries,
            "\nExamples and all settings of a command: uniface caption --help",
        ]
    )


def _help(name: str) -> str:
    command = COMMANDS[name]
    examples = [f"  # {meaning}\n  uniface {name} {typed}" for typed, meaning in command.examples]
    return "\n".join(
        [
            f"uniface {name}: {command.summary}",
            "\nExamples:",
            *examples,
            "\nSettings, each typed as name=value:\n",
            settings_help(name),
            f"\n{_EXIT_CODES}",
        ]
    )


__all__ = ["COMMANDS", "Command", "entry", "main"]

if __name__ == "__main__":
    entry()
