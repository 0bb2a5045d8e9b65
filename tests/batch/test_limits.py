"""A run that goes wrong stops itself."""

from collections import Counter
from contextlib import nullcontext

import pytest

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.follow import Course
from uniface_ray.batch.limits import RejectLimit
from uniface_ray.batch.replay import Replay, select
from uniface_ray.batch.tally import Tally
from uniface_ray.core.errors import StoppedError


def marker(ok: int, **rejects: int) -> Marker:
    rejected = sum(rejects.values())
    return Marker(0, ok + rejected, ok, rejected, ok, rejects, [], {}, 1, "2026-01-01T00:00:00+00:00")


def count(limit: RejectLimit, ok: int, **rejects: int) -> None:
    limit.count(ok + sum(rejects.values()), Counter(rejects))


def test_it_stops_past_the_limit_and_says_why() -> None:
    limit = RejectLimit(0.1, least_rows=20)
    count(limit, 5, not_found=5)  # too early to tell
    count(limit, 90)
    count(limit, 0, not_found=3, unreadable_image=2)
    with pytest.raises(StoppedError, match=r"0\.1, but 12 of 112 .*: 8 not_found, 4 unreadable_image\.") as caught:
        count(limit, 5, unreadable_image=2)
    assert caught.value.exit_code == 3


def test_without_a_limit_it_goes_on() -> None:
    limit = RejectLimit()
    for _ in range(100):
        count(limit, 0, not_found=100)


def test_a_replay_counts_the_rows_that_it_does_and_no_others() -> None:
    """Of a chunk with 60 rejects, the 10 that timed out are done again: first one of them fails again, then all."""
    before = marker(40, not_found=50, timeout=10)
    for now, too_many in ((marker(49, not_found=50, timeout=1), False), (before, True)):
        course = Course(Tally(input=100), limit=RejectLimit(0.5, least_rows=10))
        select([before], Replay.of(["timeout"]), None, course.tally)
        with pytest.raises(StoppedError, match="10 of 10 rows") if too_many else nullcontext():
            course.count(now)
