"""The numbers of an evaluation: what each is called, what it means, and its interval."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from uniface_ray.evaluate import texts
from uniface_ray.evaluate.distances import Cloud, frechet, kernel, least_images
from uniface_ray.evaluate.intervals import Estimate
from uniface_ray.evaluate.summary import Summary

_KERNEL_LEAST = 20  # images a side, of which the jackknife's groups leave 18


@dataclass(frozen=True, slots=True)
class Number:
    """One number.

    Attributes:
        name: in metrics.json, `agreement.gender`.
        title: for people.
        estimate: with its interval.
        meaning: a sentence.
        bounded: it lies in 0..1.
        missing: why there is none.
    """

    name: str
    title: str
    estimate: Estimate | None
    meaning: str
    bounded: bool = True
    missing: str = ""


def numbers_of(summary: Summary, real: Cloud | None = None, features: str = "") -> list[Number]:
    """All numbers of an evaluation.

    Args:
        summary: of all rows.
        real: features of real faces, where drawn ones are compared with them.
        features: what they are called.
    """
    return [*_agreements(summary), *_of_kind(summary), *(_distances(summary.cloud, real, features) if real else ())]


def _agreements(summary: Summary) -> Iterator[Number]:
    who = "judge sees" if summary.kind == "drawings" else "caption says"
    for name in summary.attributes:
        if not summary.known(f"{name}_known"):
            continue
        title = name.replace("_", " ")
        # Of a smile a caption always says something, see `read_claims`.
        is_always_claimed = summary.kind == "captions" and name == "smile"
        silence = "no word of one is the claim that there is none" if is_always_claimed else "silence counts as wrong"
        yield Number(
            f"agreement.{name}",
            f"{title}: agreement",
            summary.share(f"{name}_agreed", f"{name}_known"),
            f"share of the faces whose {title} is known of which the {who} the same; {silence}",
        )
        if summary.kind == "captions" and not is_always_claimed:
            yield Number(
                f"claimed.{name}",
                f"{title}: claimed",
                summary.share(f"{name}_claimed", f"{name}_known"),
                f"share of these faces of whose {title} the caption says anything",
            )


def _of_kind(summary: Summary) -> Iterator[Number]:
    match summary.kind:
        case "captions":
            yield from _texts(summary)
        case "answers":
            yield from _answers(summary)
        case "drawings" if scored := summary.known("own_scored"):
            mean = summary.sums.mean("own_score", "own_scored", scored)
            meaning = (
                "mean of the model's own P(yes) / (P(yes) + P(no)) that the face shows its prompt (VQAScore's way)"
            )
            yield Number("own_score", "own score", mean, meaning)


def _texts(summary: Summary) -> Iterator[Number]:
    if not (compared := summary.known("compared")):
        return
    meanings = {
        "bleu": ("BLEU", "BLEU-4 of the whole corpus (sacrebleu), 0..1"),
        "chrf": ("chrF", "mean of the captions' chrF (sacrebleu), 0..1"),
        "rouge_l": ("ROUGE-L", "mean of the captions' ROUGE-L F1 with stemming (rouge-score), 0..1"),
    }
    for name, estimate in texts.estimates(summary.sums, compared).items():
        title, meaning = meanings[name]
        yield Number(name, title, estimate, meaning)


def _answers(summary: Summary) -> Iterator[Number]:
    if summary.known("yes_no"):
        shares = (
            ("accuracy", "right", "right", "yes_no", "share of right answers to questions of yes or no"),
            ("recall_yes", "right among yes", "yes_right", "yes", "share of right answers where yes is right"),
            ("recall_no", "right among no", "no_right", "no", "share of right answers where no is right"),
            ("said_yes", "yes said", "said_yes", "yes_no", "share of answers that begin with yes"),
            ("right_yes", "yes right", "yes", "yes_no", "share of these questions to which yes is right"),
            ("unclear", "neither", "unclear", "yes_no", "share of answers that begin with neither; they are wrong"),
        )
        for name, title, hits, trials, meaning in shares:
            yield Number(f"yes_no.{name}", f"yes or no: {title}", summary.share(hits, trials), meaning)
        meaning = "mean of the shares right among yes and among no: half for who always says the same"
        yield Number("yes_no.balanced_accuracy", "yes or no: balanced", summary.balanced(), meaning)
    if free := summary.known("free"):
        meaning = "share of free answers that are a right one, but for case, marks and articles"
        yield Number("free.exact", "free: exact", summary.share("exact", "free"), meaning)
        meaning = "mean F1 of the words that free answers share with the right one"
        yield Number("free.overlap", "free: words shared", summary.sums.mean("overlap", "free", free), meaning)


def _distances(drawn: Cloud, real: Cloud, features: str) -> Iterator[Number]:
    least = least_images(real.width)
    there = f"there are {drawn.count:,} drawn and {real.count:,} real faces"
    few = min(drawn.count, real.count)
    of = f"of drawn and real faces in the features of {features}; not {{}}, whose features are Inception's"
    wide = f"{there}, and a covariance of {real.width} features needs {least:,} of each"
    yield Number(
        "frechet_distance",
        "Fréchet distance",
        frechet(drawn, real) if few >= least else None,
        f"Fréchet distance {of.format('FID')}",
        bounded=False,
        missing="" if few >= least else wide,
    )
    enough = few >= _KERNEL_LEAST
    yield Number(
        "kernel_distance",
        "kernel distance",
        kernel(drawn, real) if enough else None,
        f"unbiased squared maximum mean discrepancy {of.format('KID')}",
        bounded=False,
        missing="" if enough else f"{there}, and it needs {_KERNEL_LEAST} of each",
    )


def document(numbers: list[Number], summary: Summary) -> dict[str, Any]:
    """What metrics.json says of the numbers and of what was confused with what."""
    told: dict[str, Any] = {"rows": summary.sums.rows, "metrics": {}, "confusion": {}}
    for number in numbers:
        one = number.estimate
        values: dict[str, Any] = {"value": None, "missing": number.missing}
        if one:
            bounds = {"value": one.value, "low": one.low, "high": one.high}
            values = {name: round(value, 6) if math.isfinite(value) else None for name, value in bounds.items()}
            values |= {"known": one.known, "interval": one.method}
        told["metrics"][number.name] = {**values, "meaning": number.meaning}
    for name, counts in summary.confusion.items():
        table = told["confusion"].setdefault(name, {})
        for (known, claimed), rows in sorted(counts.items()):
            table.setdefault(known, {})[claimed] = rows
    return told


def to_json(told: dict[str, Any]) -> str:
    """The text of metrics.json."""
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


__all__ = ["Number", "document", "numbers_of", "to_json"]
