"""Pieces of an answer: together they are the answer, whatever the steps and the stop texts."""

from hypothesis import given
from hypothesis import strategies as st

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
