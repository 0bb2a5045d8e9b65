"""Claims are counted against what is known."""

import math

import pytest

from tests.evaluate.agreement import Agreement, agreement


def test_counts_leave_out_the_unknown_and_blame_silence() -> None:
    captions = ["A man.", "A woman.", "A person.", "A boy."]
    truths = [{"gender": "male"}, {"gender": "male"}, {"gender": "female"}, {"gender": None}]
    counted = agreement(captions, truths)
    assert counted["gender"] == Agreement(known=3, claimed=2, agreed=1)
    assert counted["gender"].rate == pytest.approx(1 / 3)
    assert counted["hair_color"] == Agreement(0, 0, 0)
    assert math.isnan(counted["hair_color"].rate)


def test_captions_and_truths_must_pair_up() -> None:
    with pytest.raises(ValueError, match="zip"):
        agreement(["A man."], [])
