"""Claims are read out of free wording."""

import pytest

from uniface_ray.evaluate.claims import ATTRIBUTES, VALUES, Claims, read_claims, read_wishes


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


@pytest.mark.parametrize(
    ("prompt", "smile"),
    [
        ("a smiling woman", "yes"),
        ("a woman with a smile", "yes"),
        ("a woman", None),
        ("a woman, not smiling", "no"),
        ("a woman without a smile", "no"),
        ("a woman who isn't even smiling", "no"),
        ("an unsmiling woman", "no"),
        ("no trace of a smile on a woman", "yes"),  # beyond what these rules read
        ("a serious woman", "no"),
        ("with a serious look", "no"),
        ("not smiling, or smiling", None),
    ],
)
def test_wishes_leave_open_what_is_not_said(prompt: str, smile: str | None) -> None:
    assert read_wishes(prompt).smile == smile
    assert read_claims(prompt).smile == smile or smile is None


def test_every_attribute_has_its_values() -> None:
    assert tuple(VALUES) == ATTRIBUTES
    for text in ("a young woman with red hair", "a smiling old man", "a child with blond hair", "a teen"):
        for name in ATTRIBUTES:
            assert read_claims(text).value(name) in (None, *VALUES[name])
