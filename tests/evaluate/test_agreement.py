"""Claims are read out of free wording, and counted with honest intervals."""

import math

import pytest

from uniface_ray.evaluate.agreement import Agreement, Claims, agreement, read_claims, wilson


@pytest.mark.parametrize(
    ("caption", "claims"),
    [
        ("A young woman with long brown hair. She is smiling.", Claims("female", "young adult", "yes", "brown")),
        ("An elderly man, his hair is white, looks stern.", Claims("male", "older", "no", "grey")),
        ("This middle-aged lady has blonde, curly hair.", Claims("female", "middle-aged", "no", "blond")),
        ("A toddler smiles at a red ball.", Claims(None, "child", "yes", None)),
        ("A teenage boy with black hair and dark skin.", Claims("male", "teenager", "no", "black")),
        ("A man and a woman.", Claims(None, None, "no", None)),
        ("Dark hair, a grey background.", Claims(None, None, "no", None)),
        ("The human is a person of many manners; the theme is mental.", Claims(None, None, "no", None)),
        ("", Claims(None, None, "no", None)),
    ],
)
def test_claims_of_free_wording(caption: str, claims: Claims) -> None:
    assert read_claims(caption) == claims


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


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = wilson(10, 10)
    assert 0.7 < low < 0.75
    assert high == pytest.approx(1)
    assert all(math.isnan(bound) for bound in wilson(0, 0))
