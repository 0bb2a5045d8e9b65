"""Answers in free wording against the right ones."""

import pytest

from uniface_ray.evaluate.answers import exact, normal, overlap, yes_or_no


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Yes, she is smiling.", "yes"),
        ("no", "no"),
        ("  No! ", "no"),
        ("Yesterday", None),
        ("The answer is yes", None),
        ("Nothing", None),
        ("", None),
    ],
)
def test_an_answer_begins_with_yes_or_no(text: str, told: str | None) -> None:
    assert yes_or_no(text) == told


def test_exact_match_does_not_mind_case_articles_and_marks() -> None:
    assert normal("The  woman's hat, a red one.") == "woman s hat red one"
    assert exact("A young man.", ["young man"])
    assert exact("blond", ["red", "Blond!"])
    assert not exact("young man", ["a man"])


def test_overlap_of_words() -> None:
    # 2 of 3 said and 2 of 2 right words: 2 * 2 / 5.
    assert overlap("a tall young man", ["young man"]) == pytest.approx(0.8)
    assert overlap("red red", ["red"]) == pytest.approx(2 / 3)
    assert overlap("cat", ["dog", "the cat"]) == 1
    assert overlap("cat", ["dog"]) == 0
    assert overlap("", ["dog"]) == 0
