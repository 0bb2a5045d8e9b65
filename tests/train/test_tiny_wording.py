"""Captions and answers say what is sure, nothing else, and say it so that it can be read back."""

import itertools
import random
import re

import pytest

from uniface_ray.evaluate.claims import read_claims
from uniface_ray.train.tiny.attributes import VALUES, Attributes
from uniface_ray.train.tiny.questions import CAPTION_QUESTIONS, caption_pair, question_answers
from uniface_ray.train.tiny.wording import caption, person, short_prompt
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

WORDINGS = 12
FACES = [
    Attributes(
        gender=gender, age_group=age, smile=smile, hair_color=hair, hair_length=length, skin=skin, grown_up=grown
    )
    for gender, age, smile, hair, length, skin, grown in itertools.product(
        (None, "female", "male"),
        (None, *VALUES["age_group"]),
        (None, "no", "yes"),
        (None, *VALUES["hair_color"]),
        (None, "long"),
        (None, "fair"),
        (True, False),
    )
]


@pytest.mark.parametrize("wording", range(WORDINGS))
def test_claims_are_read_back_from_every_caption(wording: int) -> None:
    rng = random.Random(wording)
    for face in FACES:
        text = caption(face, rng)
        claims = read_claims(text)
        assert claims.gender == face.gender, text
        assert claims.age_group == face.age_group, text
        assert claims.hair_color == face.hair_color, text
        assert claims.smile == ("yes" if face.smile == "yes" else "no"), text


def test_the_word_smile_stands_in_answers_only_where_the_face_smiles() -> None:
    rng = random.Random(0)
    for face in FACES[::7]:
        for _, answer in (caption_pair(face, rng), *question_answers(face, rng)):
            assert face.smile == "yes" or "smil" not in answer.lower(), (face, answer)


def test_the_unsure_is_not_mentioned_and_not_asked() -> None:
    rng = random.Random(0)
    for _ in range(50):
        assert question_answers(Attributes(), rng) == []
        words = set(re.findall(r"[a-z]+", caption(Attributes(), rng).lower()))
        assert words <= {"a", "this", "is", "portrait", "of", "person"}


def test_every_sure_attribute_is_asked_about() -> None:
    face = Attributes(
        gender="female",
        age_group="older",
        smile="no",
        hair_color="grey",
        hair_length="short",
        bald="no",
        skin="fair",
        lighting="side",
        background="blue",
        expression="sad",
    )
    text = " ".join(answer for _, answer in question_answers(face, random.Random(0)))
    for word in ("senior woman", "sad", "grey hair", "short", "fair skin", "from the side", "blue background"):
        assert word in text, text


def test_a_bald_head_has_no_hair_colour() -> None:
    text = caption(Attributes(gender="male", bald="yes"), random.Random(1))
    assert "bald head" in text
    assert read_claims(text).hair_color is None


def test_children_are_boys_and_girls() -> None:
    assert person(Attributes(gender="male", age_group="child", grown_up=False)).noun == "a little boy"
    assert person(Attributes(gender="female", age_group="young adult", grown_up=True)).noun == "a young woman"
    assert person(Attributes(gender="female", grown_up=False)).noun == "a girl"
    assert person(Attributes(gender="female", grown_up=True)).noun == "a woman"


def test_same_seed_same_words() -> None:
    face = Attributes(gender="male", smile="yes", hair_color="black", background="green")
    assert [caption(face, random.Random(5)) for _ in range(3)] == [caption(face, random.Random(5))] * 3
    assert len({caption(face, random.Random(seed)) for seed in range(40)}) > 8


def test_the_default_question_is_the_most_frequent() -> None:
    rng = random.Random(0)
    asked = [caption_pair(Attributes(gender="male"), rng)[0] for _ in range(400)]
    assert 0.45 < asked.count(CAPTION_QUESTIONS[0]) / 400 < 0.75
    assert set(asked) == set(CAPTION_QUESTIONS)


def test_short_prompts_say_nothing_wrong_and_all_that_they_must() -> None:
    rng = random.Random(0)
    for face in FACES:
        always = ("age_group", "hair_color")
        claims = read_claims(short_prompt(face, rng, always=always))
        assert claims.gender == face.gender
        assert claims.age_group == face.age_group
        assert claims.hair_color == face.hair_color
        assert claims.smile == "no" or face.smile is not None


def test_yes_and_no_are_right_and_about_as_frequent() -> None:
    rng = random.Random(0)
    face = Attributes(gender="female", age_group="older", smile="no", hair_color="grey", bald="no")
    said = [pair for _ in range(200) for pair in yes_no_pairs(face, rng)]
    assert ("Is this a woman?", "Yes.") in said
    assert ("Is this a man?", "No.") in said
    assert ("Is this a man?", "Yes.") not in said
    assert all(answer == "No." for question, answer in said if "smil" in question or "bald" in question)
    gender = [answer for question, answer in said if "woman" in question or " man" in question or "male" in question]
    assert 0.4 < gender.count("Yes.") / len(gender) < 0.6


def test_a_false_description_is_false_in_what_it_says() -> None:
    rng = random.Random(0)
    face = Attributes(gender="male", age_group="young adult", smile="yes", hair_color="brown")
    answers = []
    for _ in range(200):
        pair = shows_pair(face, rng)
        assert pair is not None
        claims = read_claims(pair[0])
        wrong = [
            claims.gender == "female",
            claims.age_group not in (None, "young adult"),
            claims.hair_color not in (None, "brown"),
            any(word in pair[0] for word in ("serious", "not smiling")),
        ]
        assert any(wrong) == (pair[1] == "No."), pair
        answers.append(pair[1])
    assert 60 < answers.count("Yes.") < 140
    assert shows_pair(Attributes(), rng) is None
