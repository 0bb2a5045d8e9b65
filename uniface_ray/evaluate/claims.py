"""What words claim about a face: gender, age group, smile and hair colour, read out of a caption or a prompt.

A claim is a word of the table below; a text that uses words of two values ("a man and a woman") contradicts itself and
claims neither.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

_WORDS: dict[str, dict[str, str]] = {
    "gender": {
        "female": r"wom[ae]n|girls?|lady|ladies|female|she|her|hers|herself",
        "male": r"m[ae]n|boys?|gentlem[ae]n|male|he|his|him|himself|guy",
    },
    "age_group": {
        "child": r"child|children|kid|toddler|baby|infant|(?:little|small) (?:boy|girl)",
        "teenager": r"teenage[rd]?|teen|adolescent",
        "middle-aged": r"middle[- ]aged",
        "older": r"older|elderly|senior|old (?:man|woman|person)",
        "young adult": r"young (?:adult|man|woman|lady|person)",
    },
}
_HAIR = {
    "black": "black|jet[- ]black",
    "brown": "brown|brunette|chestnut",
    "blond": "blonde?|fair-haired",
    "red": "red|ginger|auburn",
    "grey": "gr[ea]y|white|silver",
}
# A colour speaks of hair within three words before it, or after "hair is"; "dark" alone is no colour.
_HAIR_BEFORE = r"\b({})(?:,? [a-z-]+){{0,2}} hair\b"
_HAIR_AFTER = r"\bhair (?:is|looks|appears) (?:[a-z-]+ )?({})\b"
_SMILE = r"smil\w*"
_NO_SMILE = rf"\bunsmiling\b|(?:\b(?:not|no|never|without)\b|n't\b)(?: an?| any| even)?(?: \w+)? {_SMILE}"
_GRAVE = r"\b(?:serious|stern|unsmiling|frown\w*)\b"

VALUES: dict[str, tuple[str, ...]] = {
    "gender": tuple(_WORDS["gender"]),
    "age_group": ("child", "teenager", "young adult", "middle-aged", "older"),
    "smile": ("yes", "no"),
    "hair_color": tuple(_HAIR),
}
"""The attributes that can be read, each with its values."""


@dataclass(frozen=True)
class Claims:
    """What a text says of each attribute of VALUES; None where it says nothing, or contradicts itself."""

    gender: str | None
    age_group: str | None
    smile: str | None
    hair_color: str | None

    def value(self, attribute: str) -> str | None:
        """By the attribute's name."""
        claimed: str | None = getattr(self, attribute)
        return claimed


RULES: dict[str, dict[str, str]] = {
    **_WORDS,
    "smile": {"yes": "smil", "no": "a smile that is denied (not, no, never, without), serious, stern, frown"},
    "hair_color": {name: f"{words}: up to three words before hair, or after hair is" for name, words in _HAIR.items()},
}
"""What is read as each value, for people who must judge the reading: regular expressions, `|` between words."""

ATTRIBUTES = tuple(field.name for field in fields(Claims))


def read_claims(caption: str) -> Claims:
    """Claims of a caption. `smile` is never None: not to mention a smile is to say that there is none."""
    return _read(caption, smile="no")


def read_wishes(prompt: str) -> Claims:
    """Claims of a prompt: what it does not mention is left to who draws."""
    return _read(prompt, smile=None)


def _read(words: str, smile: str | None) -> Claims:
    text = words.lower()
    hair = [
        name
        for name, pattern in _HAIR.items()
        if re.search(_HAIR_BEFORE.format(pattern), text) or re.search(_HAIR_AFTER.format(pattern), text)
    ]
    denied = re.search(_NO_SMILE, text)
    if denied or re.search(_GRAVE, text):
        smile = "no"
    if re.search(_SMILE, re.sub(_NO_SMILE, "", text)):
        smile = None if denied else "yes"
    return Claims(
        gender=_only(text, _WORDS["gender"]),
        age_group=_only(text, _WORDS["age_group"]),
        smile=smile,
        hair_color=hair[0] if len(hair) == 1 else None,
    )


def _only(text: str, words: Mapping[str, str]) -> str | None:
    found = [name for name, pattern in words.items() if re.search(rf"\b(?:{pattern})\b", text)]
    return found[0] if len(found) == 1 else None


__all__ = ["ATTRIBUTES", "RULES", "VALUES", "Claims", "read_claims", "read_wishes"]
