"""One row's columns, for every kind of row."""

import pyarrow as pa
import pytest

from uniface_ray.evaluate.measures import columns_of, measure_answer, measure_caption, measure_drawing


def _fits(columns: dict[str, object], kind: str, attributes: tuple[str, ...] = ()) -> None:
    schema = columns_of(kind, attributes)
    assert set(columns) == set(schema.names)
    pa.table({field.name: pa.array([columns[field.name]], field.type) for field in schema})


def test_a_caption_against_labels_and_references() -> None:
    labels = {"gender": "F", "age_group": 40, "smile": 1, "hair_color": "mauve"}
    found = measure_caption("A young woman with brown hair. She is smiling.", labels, ["A woman is smiling."])
    assert (found["gender_known"], found["gender_claimed"]) == ("female", "female")
    assert (found["age_group_known"], found["age_group_claimed"]) == ("middle-aged", "young adult")
    assert (found["hair_color_known"], found["hair_color_claimed"]) == (None, "brown")
    assert found["score"] == pytest.approx(2 / 3)
    assert found["right"] == "female, middle-aged, smile"
    assert found["odd_labels"] == ["hair_color is 'mauve', but needs one of black, brown, blond, red, grey"]
    _fits(found, "captions", tuple(labels))
    alone = measure_caption("A woman.", {}, ["A woman."])
    assert alone["score"] == 1
    _fits(alone, "captions")


@pytest.mark.parametrize(
    ("answer", "right", "exact", "said", "score"),
    [
        ("Yes, she is.", ["Yes."], True, "yes", 1),
        ("No.", ["yes"], False, "no", 0),
        ("She is.", ["yes"], False, None, 0),
        ("A red hat", ["red hat"], True, None, 1),
        ("a hat", ["the red hat"], False, None, pytest.approx(2 / 3)),
    ],
)
def test_an_answer(answer: str, right: list[str], exact: bool, said: str | None, score: float) -> None:
    found = measure_answer("Is it?", answer, right)
    assert (found["exact"], found["said_yes_no"], found["score"]) == (exact, said, score)
    _fits(found, "answers")


CHANCES = {"gender": {"female": 0.8, "male": 0.2}, "age_group": {"child": 0.1, "older": 0.9}}


def test_a_drawing_is_held_against_its_prompt_where_nothing_else_is_known() -> None:
    found = measure_drawing("a smiling man", None, CHANCES, 0.7, [1.0])
    assert (found["gender_known"], found["gender_claimed"]) == ("male", "female")
    assert (found["smile_known"], found["odd_labels"]) == (None, [])  # the judge knows no smiles
    assert found["score"] == pytest.approx(0.2)
    _fits(found, "drawings", ("gender", "age_group", "smile", "hair_color"))


def test_a_drawing_is_held_against_its_labels() -> None:
    found = measure_drawing("a person", {"gender": "female", "age_group": "teenager"}, CHANCES, None, None)
    assert (found["gender_known"], found["gender_claimed"]) == ("female", "female")
    assert found["age_group_known"] is None  # this judge has no word for teenagers
    assert found["odd_labels"] == ["age_group=teenager, which no judge has a word for"]
    assert found["right"] == "gender: female"
    assert measure_drawing("a person", None, {}, 0.6, None)["score"] == 0.6
    assert measure_drawing("a person", None, {}, None, None)["score"] is None
