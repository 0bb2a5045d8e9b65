"""progress.json's numbers and the rate behind them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniface_ray.core.progress import Progress, RateMeter, clock, rate_text

_NOW = "2026-01-31T12:03:05+00:00"


def commits(meter: RateMeter, *rounds: tuple[float, int]) -> RateMeter:
    for now_s, rows in rounds:
        meter.add(now_s, rows)
    return meter


def test_steady_commits_give_their_rate_without_the_start_up():
    meter = commits(RateMeter(0.0), *((20 + 4 * i, 256) for i in range(30)))
    assert meter.rate(136.0) == pytest.approx(64.0)
    assert meter.overall(136.0) == pytest.approx(30 * 256 / 136)


@pytest.mark.parametrize("now_s", [240.5, 250.0, 290.0, 299.0])
def test_replicas_that_commit_together_do_not_make_it_jump(now_s):
    rounds = [(60.0 * r + 0.1 * replica, 256) for r in range(1, 5) for replica in range(4)]
    assert commits(RateMeter(0.0), *rounds).rate(now_s) == pytest.approx(4 * 256 / 60, rel=0.02)


def test_two_first_chunks_a_moment_apart_are_not_a_pace():
    meter = commits(RateMeter(0.0), (60.0, 256), (60.5, 256))
    assert meter.rate(60.5) == pytest.approx(512 / 60.5)


def test_a_change_of_pace_shows_within_the_window():
    meter = commits(RateMeter(0.0), *((float(t), 100) for t in range(1, 101)))
    commits(meter, *((float(t), 10) for t in range(101, 171)))
    assert meter.rate(170.0) == pytest.approx(10.0)


def test_a_pace_slower_than_the_window_is_still_told():
    meter = commits(RateMeter(0.0), (5.0, 32), *((5.0 + 200 * i, 32) for i in range(1, 8)))
    assert meter.rate(1500.0) == pytest.approx(32 / 200)


def test_while_nothing_comes_the_rate_sinks_and_the_eta_grows():
    meter = commits(RateMeter(0.0), *((4.0 * i, 256) for i in range(1, 20)))
    rates = [meter.rate(now_s) for now_s in (76.0, 79.0, 100.0, 200.0, 2000.0)]
    assert rates[0] == rates[1] == pytest.approx(64.0)
    assert rates[1] > rates[2] > rates[3] > rates[4]
    assert rates[4] < 2


def test_a_resumed_run_tells_its_eta_from_its_own_rows():
    # 1,000,000 rows of an earlier run are done, 640 are left: the meter never hears of the million.
    meter = commits(RateMeter(1000.0), *((1000.0 + 4 * i, 256) for i in range(1, 6)))
    assert meter.eta_s(1020.0, 640) == pytest.approx(10.0)


def test_eta_is_unknown_before_the_first_rows_and_zero_at_the_end():
    meter = RateMeter(0.0)
    assert meter.eta_s(5.0, 100) is None
    assert meter.eta_s(5.0, None) is None
    assert meter.eta_s(5.0, 0) == 0.0
    assert commits(meter, (6.0, 100)).eta_s(7.0, None) is None


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10_000)), max_size=50), st.floats(0, 1e5))
def test_any_history_gives_a_finite_rate(steps, idle_s):
    meter, now_s = RateMeter(0.0), 0.0
    for step_ms, rows in steps:
        now_s += step_ms / 1000
        meter.add(now_s, rows)
        assert meter.rate(now_s) >= 0
    assert math.isfinite(meter.rate(now_s + idle_s))


def test_progress_json_balances_and_keeps_unknowns_null():
    progress = Progress(5120, 1270, 10, 3840, 1270, 64.234, 59.81, 20.01, 1, 2, "running", _NOW)
    content = json.loads(progress.to_json())
    counts = content["counts"]
    assert counts["input"] == counts["ok"] + counts["rejected"] + counts["pending"] == 5120
    assert content["state"] == "running"
    assert (content["rows_per_s"], content["eta_s"], content["replicas_busy"]) == (64.23, 59.8, 1)
    unlisted = Progress(None, 0, 0, None, 0, 0.0, None, 1.0, 0, 1, "running", _NOW)
    assert json.loads(unlisted.to_json())["counts"]["input"] is None
    assert json.loads(unlisted.to_json())["eta_s"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (723, "12:03"), (10815, "3:00:15"), (187200, "2d 4:00:00"), (None, "-")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 rows/s"),
        (64.23, "64.2 rows/s"),
        (1280.4, "1,280 rows/s"),
        (0.31, "0.31 rows/s"),
        (0.05, "3.0 rows/min"),
    ],
)
def test_rate_text(rate, text):
    assert rate_text(rate) == text
