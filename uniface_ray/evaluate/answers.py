"""Answers against the right ones: yes and no, and free words."""

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans(string.punctuation, " " * len(string.punctuation))


def yes_or_no(text: str) -> str | None:
    """ "yes" or "no", as the answer begins; None where it begins with neither."""
    words = normal(text).split()
    return words[0] if words and words[0] in ("yes", "no") else None


def normal(text: str) -> str:
    """Lower case, without articles, one space between words, as SQuAD compares answers (Rajpurkar et al. 2016,
    evaluate-v1.1); but where that drops marks these part words, so that "well-known" is two here and one there."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def exact(answer: str, right: list[str]) -> bool:
    """Whether the answer is one of the right ones, in normal form."""
    return normal(answer) in map(normal, right)


def overlap(answer: str, right: list[str]) -> float:
    """F1 of the words shared with the right answer that it shares most with (SQuAD's F1), 0..1."""
    return max(_f1(normal(answer).split(), normal(one).split()) for one in right)


def _f1(said: list[str], right: list[str]) -> float:
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right)) if said or right else 1.0


__all__ = ["exact", "normal", "overlap", "yes_or_no"]
