"""A run that goes wrong stops itself."""

import pytest

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.limits import RejectLimit
from uniface_ray.core.errors import StoppedError


def marker(ok: int, **rejects: int) -> Marker:
    rejected = sum(rejects.values())
    return Marker(0, ok + rejected, ok, rejected, ok, rejects, [], {}, 1, "2026-01-01T00:00:00+00:00")


def test_it_stops_past_the_limit_and_says_why() -> None:
    limit = RejectLimit(0.1, least_rows=20)
    limit.count(marker(5, not_found=5))  # too early to tell
    limit.count(marker(90))
    limit.count(marker(0, not_found=3, unreadable_image=2))
    with pytest.raises(StoppedError, match=r"0\.1, but 12 of 112 .*: 8 not_found, 4 unreadable_image\.") as caught:
        limit.count(marker(5, unreadable_image=2))
    assert caught.value.exit_code == 3


def test_without_a_limit_it_goes_on() -> None:
    limit = RejectLimit()
    for _ in range(100):
        limit.count(marker(0, not_found=100))
