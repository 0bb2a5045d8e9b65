"""Labels as datasets have them -> values of the attributes."""

from typing import Any

from uniface_ray.evaluate.claims import VALUES

_WORDS: dict[str, dict[str, str]] = {
    "gender": {"f": "female", "woman": "female", "girl": "female", "m": "male", "man": "male", "boy": "male"},
    "age_group": {
        "kid": "child",
        "teen": "teenager",
        "young": "young adult",
        "adult": "young adult",
        "middle aged": "middle-aged",
        "old": "older",
        "senior": "older",
        "elderly": "older",
    },
    "smile": {
        "true": "yes",
        "1": "yes",
        "smiling": "yes",
        "happy": "yes",
        "false": "no",
        "0": "no",
        "-1": "no",
        "not smiling": "no",
        "neutral": "no",
    },
    "hair_color": {"blonde": "blond", "gray": "grey", "white": "grey", "silver": "grey", "brunette": "brown"},
}
# The first year of each group; where a group begins is a choice, which no source settles.
_FIRST_YEARS = ((56, "older"), (36, "middle-aged"), (20, "young adult"), (13, "teenager"), (0, "child"))
_NOTHING = ("", "none", "null", "nan", "unknown", "n/a")


def read_label(attribute: str, value: Any) -> str | None:
    """The value of an attribute that a label means; None where it says that nothing is known.

    Words are taken in any case, with `_` or a space; an age in years is a group (13 teenager, 20 young adult, 36
    middle-aged, 56 older); 1 and true are a smile, 0, -1 and false are none.

    Raises:
        ValueError: a label that means no value of the attribute.
    """
    text = str(value).strip().lower().replace("_", " ")
    if value is None or text in _NOTHING:
        return None
    if text in VALUES[attribute]:
        return text
    if text.replace(" ", "-") in VALUES[attribute]:
        return text.replace(" ", "-")
    if known := _WORDS[attribute].get(text.removesuffix(".0")):
        return known
    if attribute == "age_group":
        try:
            years = float(text)
        except ValueError:
            years = -1.0
        if 0 <= years < 130:
            return next(group for first, group in _FIRST_YEARS if years >= first)
    raise ValueError(f"{attribute} is {value!r}, but needs one of {', '.join(VALUES[attribute])}")


__all__ = ["read_label"]
