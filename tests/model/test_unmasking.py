"""Plans: how many tokens each step makes known, and what Show-o does instead."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniface_ray.core.errors import UserError
from uniface_ray.model.unmasking import DrawSettings, plan

SCHEDULES = ["cosine", "linear", "log-linear", "sigmoid", "pow2", "pow0.5"]


@settings(deadline=None)
@given(
    unknown=st.integers(0, 300),
    steps=st.integers(1, 100),
    name=st.sampled_from(SCHEDULES),
    reference=st.booleans(),
)
def test_a_plan_ends_with_all_known(unknown: int, steps: int, name: str, reference: bool) -> None:
    made = plan(unknown, 300, DrawSettings(steps, schedule=name, reference=reference))
    assert len(made.unknown) == len(made.temperature) <= steps
    assert ([unknown, *made.unknown])[-1] == 0
    assert made.temperature[-1:] in ([], [0.0])
    if not reference:
        falls = [before - after for before, after in zip([unknown, *made.unknown], made.unknown, strict=False)]
        assert all(fall >= 1 for fall in falls)
        assert len(falls) == min(unknown, steps)


def test_a_whole_image_follows_the_schedule() -> None:
    made = plan(256, 256, DrawSettings(steps=4, temperature=2.0))
    assert made.unknown == [int(256 * math.cos(math.pi / 2 * step / 4)) for step in (1, 2, 3)] + [0]
    assert made.temperature == [1.5, 1.0, 0.5, 0.0]


def test_a_small_hole_is_filled_evenly_and_not_all_at_the_end() -> None:
    hole = plan(64, 256, DrawSettings(steps=16)).unknown
    reference = plan(64, 256, DrawSettings(steps=16, reference=True)).unknown
    revealed = [[a - b for a, b in zip([64, *left], left, strict=False)] for left in (hole, reference)]
    assert max(revealed[0]) <= 7
    # Show-o's, as measured on its own code: one token a step for 13 steps, then nearly all.
    assert revealed[1] == [1] * 13 + [2, 24, 25]


def test_the_reference_cools_faster_than_told() -> None:
    cooled = plan(256, 256, DrawSettings(steps=18, reference=True)).temperature
    told = plan(256, 256, DrawSettings(steps=18)).temperature
    assert [round(cooled[step - 1], 3) for step in (5, 9)] == [0.393, 0.044]
    assert [round(told[step - 1], 2) for step in (5, 9)] == [0.72, 0.5]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0, but must be 1 or more"),
        ({"guidance": -0.5}, "guidance is -0.5"),
        ({"guidance": math.nan}, "guidance is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, r"top_p is 0.0.*over 0 and at most 1"),
        ({"schedule": "slow"}, "'slow', which is none of cosine"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DrawSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose
