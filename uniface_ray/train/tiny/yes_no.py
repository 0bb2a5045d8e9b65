"""Questions that are answered by yes or no, of attributes that are sure, and whether a picture shows a description."""

import random

from uniface_ray.model.scoring import MATCH_QUESTION
from uniface_ray.train.tiny.attributes import VALUES, Attributes
from uniface_ray.train.tiny.wording import person, short_prompt

_QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {
        "female": ("Is this a woman?", "Is this person female?", "Is the person in the photo a woman?"),
        "male": ("Is this a man?", "Is this person male?", "Is the person in the photo a man?"),
    },
    "age_group": {
        "child": ("Is this a child?", "Is the person a child?"),
        "young adult": ("Is {} a young adult?", "Is this a young adult?"),
        "middle-aged": ("Is {} middle-aged?", "Is this person middle-aged?"),
        "older": ("Is {} old?", "Is this an older person?", "Is {} elderly?"),
    },
    "smile": {"yes": ("Is {} smiling?", "Does the person smile?", "Is there a smile?", "Is {} happy?")},
    "hair_color": {color: (f"Does {{}} have {color} hair?", f"Is the hair {color}?") for color in VALUES["hair_color"]},
    "hair_length": {"long": ("Does {} have long hair?",), "short": ("Does {} have short hair?",)},
    "bald": {"yes": ("Is {} bald?", "Is the person bald?")},
}
# Attributes that a description is made of, and made wrong by.
_DESCRIBED = ("gender", "age_group", "smile", "hair_color")


def yes_no_pairs(attributes: Attributes, rng: random.Random) -> list[tuple[str, str]]:
    """A question of each sure attribute, about its own value or another one, as often answered by yes as by no."""
    subject = rng.choice((person(attributes).subject, "this person", "the person"))
    pairs = []
    for name, by_value in _QUESTIONS.items():
        value = attributes.value(name)
        if value is None:
            continue
        others = [other for other in by_value if other != value]
        asked = value if value in by_value and (rng.random() < 0.5 or not others) else rng.choice(others)
        question = rng.choice(by_value[asked]).format(subject)
        pairs.append((question, "Yes." if asked == value else "No."))
    return pairs


def shows_pair(attributes: Attributes, rng: random.Random) -> tuple[str, str] | None:
    """Whether the picture shows a description; half of them are false in one attribute. None if little is sure."""
    known = [name for name in _DESCRIBED if attributes.value(name) is not None]
    if not known or attributes.gender is None:
        return None
    described = attributes
    fits = rng.random() < 0.5
    if not fits:
        name = rng.choice(known)
        wrong = rng.choice([value for value in VALUES[name] if value != attributes.value(name)])
        described = attributes.with_value(name, wrong)
        return MATCH_QUESTION.format(text=short_prompt(described, rng, always=(name,))), "No."
    return MATCH_QUESTION.format(text=short_prompt(described, rng)), "Yes."
