"""Pieces of an answer: together they are the answer, whatever the steps and the stop texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.growth import Growth

SHORT = st.text("ab ", min_size=1, max_size=3)


@given(st.text("ab \ufffdü", max_size=30), st.lists(SHORT, max_size=3), st.data())
def test_pieces_are_the_answer_up_to_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    growth, pieces, length = Growth(stops), [], 0
    while length < len(text) and not growth.stopped:
        length += data.draw(st.integers(1, 4))
        pieces.append(growth.more(text[:length], last=length >= len(text)))
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    assert "".join(pieces) == growth.told == text[: min(ends, default=(0, len(text)))[1]]
    assert growth.stopped == bool(ends)


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    growth = Growth()
    assert [growth.more(text, False) for text in ("a\ufffd", "a\ufffd\ufffd", "aé")] == ["a", "", "é"]
    assert growth.more("aé\ufffd", True) == "\ufffd"


def test_an_answer_that_begins_anew_is_not_told_twice() -> None:
    growth = Growth()
    told = [growth.more(text, False) for text in ("one", "one two", "o", "one t", "one two three")]
    assert told == ["one", " two", "", "", " three"]


@pytest.mark.parametrize("text", ["one true", "two", "o", "one t"])
def test_another_answer_is_not_told_as_the_rest_of_the_first(text: str) -> None:
    growth = Growth()
    assert growth.more("one two", False) == "one two"
    with pytest.raises(ApiError, match="does not come to the same words"):
        growth.more(text, last=True)


def test_a_stop_in_another_answer_is_no_end_of_the_first() -> None:
    growth = Growth(["!"])
    growth.more("one two", False)
    with pytest.raises(ApiError, match="does not come to the same words"):
        growth.more("one!", False)


def test_an_answer_that_nobody_has_seen_may_become_another() -> None:
    growth = Growth(["!"], final=True)
    for text in ("one tw", "one tr", "one true!", "one true!"):
        growth.more(text, False)
    assert (growth.told, growth.stopped) == ("one true", True)
