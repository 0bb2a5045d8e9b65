"""What a run prints: a live view where there is a terminal, plain lines where not."""

import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import datetime
from io import TextIOWrapper
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from uniface_ray.core.progress import Progress, clock, rate_text


class View:
    """Plain lines: one every `every_s` seconds, no control codes. Use as a context manager."""

    def __init__(self, console: Console, every_s: float) -> None:
        self.console = console
        self._every_s = every_s
        self._printed_s = float("-inf")

    @staticmethod
    def for_console(console: Console | None, every_s: float) -> "View":
        """The view that suits `console` (None: standard output); `every_s` is the pace of plain lines."""
        if console is None:
            if isinstance(sys.stdout, TextIOWrapper):  # an answer that the terminal cannot spell ends no run
                sys.stdout.reconfigure(errors="replace")
            console = Console()
        live = console.is_terminal and not console.is_dumb_terminal
        return LiveView(console, every_s) if live else View(console, every_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, text: str) -> None:
        """One line about what happens now: `listing s3://bucket/faces/`."""
        self._print(f"{datetime.now():%H:%M:%S}  {text}")

    def start(self, total: int | None, done: int) -> None:
        """Rows begin to flow: `total` of them, `done` by earlier runs."""
        if done:
            self.note(f"resuming: {done:,} {_of(total)}rows are done")

    def update(self, progress: Progress) -> None:
        """Shows `progress`; call it as often as you like."""
        now_s = time.monotonic()
        if now_s - self._printed_s >= self._every_s:
            self._printed_s = now_s
            self.note(progress_line(progress))

    def finish(self, summary: Sequence[tuple[str, str]]) -> None:
        """The closing words: (label, text) rows; a label that repeats is written once."""
        self.close()
        self._print()
        for line in aligned(summary, self.console.width if self.console.is_terminal else None):
            self._print(line)

    def close(self) -> None:
        """Gives the terminal back; harmless if done twice."""

    def _print(self, text: str = "", style: str | None = None) -> None:
        # File names and answers may hold control codes, which a terminal would obey.
        printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        # soft_wrap: paths stay whole, to be copied.
        self.console.print(Text(printable), style=style, soft_wrap=True)


class LiveView(View):
    """A bar and a line of numbers that stay at the bottom of the terminal."""

    def __init__(self, console: Console, every_s: float) -> None:
        super().__init__(console, every_s)
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._received_s = 0.0

    def note(self, text: str) -> None:
        """One line about what happens now, above the bar."""
        self._print(text, style="dim")

    def start(self, total: int | None, done: int) -> None:
        """Shows the bar from here on."""
        super().start(total, done)
        self._live = Live(get_renderable=self._frame, console=self.console, refresh_per_second=4)
        self._live.start()

    def update(self, progress: Progress) -> None:
        """Shows `progress`."""
        self._progress, self._received_s = progress, time.monotonic()

    def close(self) -> None:
        """Leaves the last state of the bar where it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _frame(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            return Text("waiting for replicas", style="dim")
        # The clock goes on between two updates: a screen that stands still looks like a run that hangs.
        age_s = time.monotonic() - self._received_s if progress.state == "running" else 0.0
        return _bar(progress, progress.elapsed_s + age_s, self.console.width)


def _bar(progress: Progress, elapsed_s: float, width: int) -> RenderableType:
    """The bar over its numbers, two lines of at most 80 columns."""
    total = progress.input
    share = f"{100 * progress.done // total:>3} %  " if total else ""
    head = Text.assemble((share, "bold"), f"{progress.done:,} {_of(total)}rows")
    rejected = (f"{progress.rejected:,} rejected", "yellow" if progress.rejected else "dim")
    numbers = Text("   ").join(
        (
            Text(rate_text(progress.rows_per_s), style="bold"),
            Text(f"ETA {clock(progress.eta_s)}"),
            Text(f"elapsed {clock(elapsed_s)}"),
            Text(*rejected),
            Text(f"replicas {progress.replicas_busy}/{progress.replicas} busy"),
        )
    )
    room = min(width, 100) - head.cell_len - 2
    bar = ProgressBar(
        total=total,
        completed=progress.done,
        width=max(room, 8),
        pulse=total is None,
        complete_style="cyan",
        finished_style="green",
    )
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(bar, head)
    return Group(grid, numbers)


def progress_line(progress: Progress) -> str:
    """`1,280 of 5,120 rows (25 %)  64.2 rows/s  ETA 1:00  3 rejected  replicas 1/1 busy`."""
    share = f" ({100 * progress.done // progress.input} %)" if progress.input else ""
    return "  ".join(
        (
            f"{progress.done:,} {_of(progress.input)}rows{share}",
            rate_text(progress.rows_per_s),
            f"ETA {clock(progress.eta_s)}",
            f"{progress.rejected:,} rejected",
            f"replicas {progress.replicas_busy}/{progress.replicas} busy",
        )
    )


def aligned(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Lines of (label, text) rows, texts under each other, wrapped between words where `width` is given."""
    indent = max((len(label) for label, _ in rows), default=0) + 2
    lines: list[str] = []
    last = ""
    for label, text in rows:
        head = "" if label == last else label
        last = label
        room = max(20, width - indent) if width else 10**6
        parts = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{head:<{indent}}{parts[0]}".rstrip())
        lines += [" " * indent + part for part in parts[1:]]
    return lines


def _of(total: int | None) -> str:
    return "" if total is None else f"of {total:,} "
