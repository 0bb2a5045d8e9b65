"""How often captions agree with what is known of the faces: claims are read out of the words and counted.

Plain Python on purpose: any captions and any truths can be compared, whatever made them.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Claims:
    """What a caption says; None where it says nothing, or contradicts itself.

    `smile` is "yes" or "no" and never None: not to mention a smile is to say there is none.
    """

    gender: str | None
    age_group: str | None
    smile: str
    hair_color: str | None


def read_claims(caption: str) -> Claims:
    """Claims of one caption."""
    text = caption.lower()
    hair = [
        name
        for name, words in _HAIR.items()
        if re.search(_HAIR_BEFORE.format(words), text) or re.search(_HAIR_AFTER.format(words), text)
    ]
    return Claims(
        gender=_only(text, _WORDS["gender"]),
        age_group=_only(text, _WORDS["age_group"]),
        smile="yes" if "smil" in text else "no",
        hair_color=hair[0] if len(hair) == 1 else None,
    )


def _only(text: str, words: Mapping[str, str]) -> str | None:
    found = [name for name, pattern in words.items() if re.search(rf"\b(?:{pattern})\b", text)]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Agreement:
    """Counts over faces whose truth is known: all of them, with a claim in the caption, with the right one."""

    known: int
    claimed: int
    agreed: int

    @property
    def rate(self) -> float:
        """Share of all known faces; a caption that claims nothing counts as wrong."""
        return self.agreed / self.known if self.known else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `rate`."""
        return wilson(self.agreed, self.known)


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927, eq. 4); (nan, nan) without trials."""
    if trials == 0:
        return math.nan, math.nan
    share = hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return (centre - spread) / scale, (centre + spread) / scale


def agreement(captions: Iterable[str], truths: Iterable[Mapping[str, str | None]]) -> dict[str, Agreement]:
    """Agreement of captions with truths, by attribute.

    Args:
        captions: one a face.
        truths: what is known of the same faces, by the field names of `Claims`; None or absent where unknown.
    """
    counts = {name: [0, 0, 0] for name in Claims.__dataclass_fields__}
    for caption, truth in zip(captions, truths, strict=True):
        claims = read_claims(caption)
        for name, count in counts.items():
            known, claimed = truth.get(name), getattr(claims, name)
            if known is not None:
                count[0] += 1
                count[1] += claimed is not None
                count[2] += claimed == known
    return {name: Agreement(*count) for name, count in counts.items()}


__all__ = ["Agreement", "Claims", "agreement", "read_claims", "wilson"]
