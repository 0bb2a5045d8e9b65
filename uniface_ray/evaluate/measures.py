"""What one output row of a model adds to an evaluation: columns, from which `summary` makes the numbers."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from uniface_ray.evaluate import texts
from uniface_ray.evaluate.answers import exact, overlap, yes_or_no
from uniface_ray.evaluate.claims import VALUES, read_claims, read_wishes
from uniface_ray.evaluate.labels import read_label

Columns = dict[str, Any]
Chances = Mapping[str, Mapping[str, float]]
"""What a judge sees in a face: the chance of each value of each attribute that it knows."""


def columns_of(kind: str, attributes: Sequence[str]) -> pa.Schema:
    """The columns of rows of a kind (`captions`, `answers`, `drawings` or `faces`).

    `score`, 0..1, is what puts a row among the best or the worst; null where nothing is known of it.
    """
    common = [("text", pa.string()), ("right", pa.string()), ("score", pa.float32())]
    compared = [
        *((f"{name}_{part}", pa.string()) for name in attributes for part in ("known", "claimed")),
        ("odd_labels", pa.list_(pa.string())),
    ]
    match kind:
        case "captions":
            return pa.schema([*common, *compared, ("compared", pa.list_(pa.float64()))])
        case "answers":
            words = [(name, pa.string()) for name in ("question", "known_yes_no", "said_yes_no")]
            return pa.schema([*common, *words, ("exact", pa.bool_()), ("overlap", pa.float64())])
        case "drawings":
            seen = [("own_score", pa.float64()), ("features", pa.list_(pa.float32()))]
            return pa.schema([*common, *compared, *seen])
        case _:
            return pa.schema([("text", pa.string()), ("features", pa.list_(pa.float32()))])


def measure_caption(caption: str, labels: Mapping[str, Any], references: Sequence[str]) -> Columns:
    """A caption against what is known of its face, and against reference captions.

    Args:
        caption: of the face.
        labels: by attribute, as the dataset has them.
        references: none where there are none.
    """
    known, odd = _known(labels)
    claims = read_claims(caption)
    claimed = {name: claims.value(name) for name in known}
    compared = texts.compare(caption, references) if references else None
    right = [claimed[name] == value for name, value in known.items() if value]
    score = fmean(right) if right else compared[texts.COLUMNS.index("rouge_l")] if compared else None
    wanted = ", ".join(value for value in _told(known)) or (references[0] if references else "")
    columns = {"text": caption, "right": wanted, "score": score, "odd_labels": odd, "compared": compared}
    return columns | _pairs(known, claimed)


def measure_answer(question: str, answer: str, right: Sequence[str]) -> Columns:
    """An answer against the right ones: by its first word where that of the first right one is yes or no, else by all
    its words."""
    known = yes_or_no(right[0])
    said = yes_or_no(answer) if known else None
    same = said == known if known else exact(answer, list(right))
    shared = None if known else overlap(answer, list(right))
    return {
        "question": question,
        "text": answer,
        "right": " or ".join(right),
        "known_yes_no": known,
        "said_yes_no": said,
        "exact": same,
        "overlap": shared,
        "score": float(same) if known else shared,
    }


def measure_drawing(
    prompt: str, labels: Mapping[str, Any] | None, chances: Chances, own_score: float | None, features: Any
) -> Columns:
    """A drawn face against its prompt.

    Args:
        prompt: as far as the model saw it.
        labels: what was wished for, by attribute; None reads it out of the prompt.
        chances: of a judge; empty where there is none.
        own_score: the model's own P(yes); None where it was not asked.
        features: (D,) floats, or None.
    """
    wishes = read_wishes(prompt)
    known, odd = _known(labels) if labels is not None else ({name: wishes.value(name) for name in VALUES}, [])
    # What the judge has no word for, it cannot be asked about.
    odd += [
        f"{name}={value}, which no judge has a word for"
        for name, value in known.items()
        if value and name in chances and value not in chances[name]
    ]
    asked = {name: value if value in chances.get(name, {}) else None for name, value in known.items()}
    claimed = {name: _likeliest(chances[name]) if value else None for name, value in asked.items()}
    agreed = [chances[name][value] for name, value in asked.items() if value]
    columns = {
        "text": prompt,
        "right": ", ".join(f"{name}: {claimed[name]}" for name, value in asked.items() if value),
        "score": fmean(agreed) if agreed else own_score,
        "odd_labels": odd,
        "own_score": own_score,
        "features": features,
    }
    return columns | _pairs(asked, claimed)


def _known(labels: Mapping[str, Any]) -> tuple[dict[str, str | None], list[str]]:
    """Values by attribute, and what is wrong with labels that mean none."""
    known: dict[str, str | None] = {}
    odd = []
    for name, label in labels.items():
        try:
            known[name] = read_label(name, label)
        except ValueError as error:
            known[name] = None
            odd.append(str(error))
    return known, odd


def _likeliest(chances: Mapping[str, float]) -> str:
    return max(chances, key=lambda value: chances[value])


def _told(known: Mapping[str, str | None]) -> Iterable[str]:
    for name, value in known.items():
        if value:
            yield {"yes": "smile", "no": "no smile"}[value] if name == "smile" else value


def _pairs(known: Mapping[str, str | None], claimed: Mapping[str, str | None]) -> Columns:
    return {f"{name}_known": value for name, value in known.items()} | {
        f"{name}_claimed": value for name, value in claimed.items()
    }


__all__ = ["Chances", "Columns", "columns_of", "measure_answer", "measure_caption", "measure_drawing"]
