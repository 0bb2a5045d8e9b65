"""The terminal view, on consoles that write into memory."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from tests.core.test_report import report
from uniface_ray.batch.closing import closing
from uniface_ray.core.progress import Progress
from uniface_ray.core.report_data import Sample
from uniface_ray.core.view import LiveView, View, aligned

_PROGRESS = Progress(5120, 1277, 3, 3840, 1277, 64.2, 60.0, 20.0, 1, 1, "running", "2026-01-31T12:03:05Z")


def plain() -> Console:
    return Console(file=io.StringIO(), width=80)


def terminal(width: int = 80, **environment: str) -> Console:
    environment = {"TERM": "xterm-256color", **environment}
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=50, _environ=environment)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(console: Console, every_s: float = 0.0, updates: int = 3) -> str:
    with View.for_console(console, every_s) as view:
        view.note("plan: 5,120 rows in 20 chunks")
        view.start(5120, 1024)
        for _ in range(updates):
            view.update(_PROGRESS)
        view.finish(closing(report()))
    return written(console)


def test_a_pipe_gets_whole_lines_without_control_codes():
    text = run(plain())
    assert "\x1b" not in text
    assert "\r" not in text
    assert re.search(
        r"^\d\d:\d\d:\d\d  1,280 of 5,120 rows \(25 %\)  64\.2 rows/s  ETA 1:00  "
        r"3 rejected  replicas 1/1 busy$",
        text,
        re.MULTILINE,
    )
    assert "resuming: 1,024 of 5,120 rows are done" in text


@pytest.mark.parametrize(("every_s", "lines"), [(0.0, 5), (1e9, 1)])
def test_plain_lines_keep_their_pace(every_s, lines):
    assert run(plain(), every_s, updates=5).count("rows/s  ETA") == lines


def test_a_path_longer_than_the_line_stays_whole():
    console = plain()
    sink = "s3://bucket/" + "a-long-folder-name/" * 12
    with View.for_console(console, 1.0) as view:
        view.finish(closing(dataclasses.replace(report(), sink=sink)))
    assert f"{sink}report.html\n" in written(console)


def test_a_terminal_gets_the_bar_and_a_dumb_one_plain_lines():
    assert isinstance(View.for_console(terminal(), 1.0), LiveView)
    assert not isinstance(View.for_console(terminal(TERM="dumb"), 1.0), LiveView)
    assert not isinstance(View.for_console(plain(), 1.0), LiveView)
    assert "\x1b" not in run(terminal(TERM="dumb"))


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_view_fits_its_terminal(width):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run(terminal(width)))
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    assert max(len(line) for line in lines) <= width
    assert any(line.endswith("25 %  1,280 of 5,120 rows") for line in lines)
    numbers = re.compile(r"64\.2 rows/s   ETA 1:00   elapsed \d:\d\d   3 rejected   replicas 1/1 busy")
    assert any(numbers.fullmatch(line) for line in lines)


def test_no_color_means_no_color():
    color = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]")
    assert color.search(run(terminal()))
    assert not color.search(run(terminal(NO_COLOR="1")))


def test_the_cursor_comes_back_after_an_error():
    console = terminal()

    def fail() -> None:
        with View.for_console(console, 1.0) as view:
            view.start(10, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert written(console).rindex("\x1b[?25h") > written(console).rindex("\x1b[?25l")


def test_control_codes_of_the_data_do_not_reach_the_terminal():
    hostile = [Sample(1, "/faces/\x1b]0;owned\x07\udcff.jpg", "red \x1b[31malert\nnext")]
    console = terminal()
    with View.for_console(console, 1.0) as view:
        view.note("source \x1b[2J")
        view.finish(closing(dataclasses.replace(report(), samples=hostile)))
    text = written(console)
    assert "\x1b]0" not in text
    assert "\x1b[31m" not in text
    assert "\x1b[2J" not in text
    text.encode()


def test_closing_tells_counts_reasons_samples_and_places():
    rows = closing(report(faces=20), samples=4)
    assert ("done", "5,111 ok, 9 rejected of 5,120 rows") in rows
    rejected = [text for label, text in rows if label == "rejected"]
    assert rejected == ["7 unreadable_image", "2 too_large, as bad.jpg: over the limit"]
    samples = [text for label, text in rows if label == "samples"]
    assert samples == [f"{i}.jpg: A smiling woman, {i}." for i in (0, 5, 10, 15)]
    assert rows[-1] == ("report", "s3://captions/run-3/report.html")


def test_closing_of_an_interrupted_run_says_how_to_go_on():
    counts = {"input": 5120, "ok": 100, "rejected": 0, "pending": 5020, "rows_out": 100}
    rows = closing(report(state="interrupted", counts=counts, rejects_by_kind={}))
    assert ("interrupted", "5,020 rows are left: the same command resumes") in rows
    assert not any(label in ("rejected", "rejects") for label, _ in rows)


def test_many_kinds_of_rejects_are_summed_up():
    kinds = {f"kind_{i}": 10 - i for i in range(8)}
    rejected = [text for label, text in closing(report(rejects_by_kind=kinds)) if label == "rejected"]
    assert rejected[-1] == "12 of other kinds"
    assert len(rejected) == 6


def test_aligned_wraps_between_words_under_the_text():
    lines = aligned([("a", "one two three four five six"), ("a", "seven"), ("report", "x" * 60)], width=30)
    assert lines == ["a       one two three four", "        five six", "        seven", "report  " + "x" * 60]
