"""report.html of an evaluation: numbers with intervals, what was confused with what, the best and the worst."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from uniface_ray.core.markup import el
from uniface_ray.core.report_charts import scores_chart
from uniface_ray.core.report_data import Sample
from uniface_ray.core.report_parts import card, page, section
from uniface_ray.evaluate.claims import RULES
from uniface_ray.evaluate.findings import Number

_WIDE, _HIGH = 200.0, 18.0
_MARGIN = 6.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the page tells.

    Attributes:
        kind: `captions`, `answers` or `drawings`.
        run: address of the run whose output is evaluated.
        attributes: that are compared.
        confusion: by attribute, rows of each (known, claimed).
        own_scores: rows by the twentieth of their own score.
        best: of the rows, the best first.
        worst: the worst first.
        config: without secrets.
        versions: of the code and the libraries.
        notes: what the reader should know besides.
    """

    title: str
    kind: str
    model: str
    run: str
    sink: str
    numbers: Sequence[Number]
    attributes: Sequence[str]
    confusion: Mapping[str, Counter[tuple[str, str]]]
    own_scores: Mapping[int, int]
    best: Sequence[Sample]
    worst: Sequence[Sample]
    config: dict[str, Any]
    versions: dict[str, str]
    notes: Sequence[str]


def render(one: Evaluation) -> str:
    """The page."""
    sections = [_numbers(one), _confusion(one), _sheet("Worst", one.worst), _sheet("Best", one.best), _details(one)]
    shown = [part for part in sections if part is not None]
    header = el(
        "header",
        el("p", f"evaluation · {one.model}", class_="eyebrow"),
        el("h1", one.title),
        el("p", el("span", one.run, class_="path"), el("span", " → ", class_="arrow"), el("span", one.sink)),
        el("nav", *(el("a", str(part.get("aria-label")), href=f"#{part.get('id')}") for part in shown)),
    )
    return page(one.title, header, el("main", *shown, id="main"))


def _numbers(one: Evaluation) -> Element:
    head = el("tr", *(el("th", name, scope="col") for name in ("", "value", "95 %", "of", "", "what it is")))
    table = el("table", el("thead", head), el("tbody", *map(_row, one.numbers)), class_="metrics")
    notes = el("ul", *(el("li", note) for note in one.notes), class_="notes")
    return section("Numbers", table, *([notes] if one.notes else []))


def _row(number: Number) -> Element:
    title, meaning = el("th", number.title, scope="row"), el("td", number.meaning, class_="meaning")
    found = number.estimate
    if found is None or not math.isfinite(found.value):
        why = number.missing or "nothing to tell from"
        return el("tr", title, el("td", "—", class_="number"), el("td", why, colspan="3", class_="meaning"), meaning)
    digits = 3 if number.bounded else 4
    interval = f"{found.low:.{digits}g} to {found.high:.{digits}g}"
    if found.method == "none":
        interval = "—"
    elif number.bounded:
        interval = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    return el(
        "tr",
        title,
        el("td", f"{100 * found.value:.1f} %" if number.bounded else f"{found.value:.{digits}g}", class_="number"),
        el("td", interval, class_="number"),
        el("td", f"{found.known:,}", class_="number"),
        el("td", *([_whisker(found.value, found.low, found.high)] if number.bounded else [])),
        meaning,
    )


def _whisker(value: float, low: float, high: float) -> Element:
    """The value and its interval between 0 and 1."""

    def x(share: float) -> float:
        return round(_MARGIN + (_WIDE - 2 * _MARGIN) * min(1.0, max(0.0, share)), 1)

    middle = _HIGH / 2
    ticks = [el("line", x1=x(tick), x2=x(tick), y1=2.0, y2=_HIGH - 2) for tick in (0, 0.25, 0.5, 0.75, 1)]
    span = el("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="span")
    dot = el("circle", cx=x(value), cy=middle, r=4.5)
    return el("svg", *ticks, span, dot, viewBox=f"0 0 {_WIDE:g} {_HIGH:g}", class_="whisker", aria_hidden="true")


def _confusion(one: Evaluation) -> Element | None:
    figures = [
        el("figure", el("figcaption", name.replace("_", " ")), _matrix(counts))
        for name, counts in one.confusion.items()
        if counts
    ]
    if one.own_scores:
        figures.append(el("figure", el("figcaption", "The model's own scores"), scores_chart(one.own_scores)))
    if not figures:
        return None
    who = {"captions": "the caption says", "answers": "the answer says", "drawings": "the judge sees"}[one.kind]
    told = el("p", f"Rows: what is known. Columns: what {who}. Shares are of a row.", class_="muted")
    return section("Confusions", told, el("div", *figures, class_="charts"))


def _matrix(counts: Counter[tuple[str, str]]) -> Element:
    known = sorted(
        {row for row, _ in counts}, key=lambda name: -sum(n for (row, _), n in counts.items() if row == name)
    )
    claimed = [*known, *sorted({column for _, column in counts} - set(known))]
    head = el("tr", el("td"), *(el("th", name, scope="col") for name in claimed))
    rows = []
    for row in known:
        total = sum(counts[row, column] for column in claimed)
        cells = [
            el(
                "td",
                f"{100 * counts[row, column] / total:.0f} %",
                class_="right" if column == row else "wrong",
                style=f"--share:{counts[row, column] / total:.2f}",
                title=f"{counts[row, column]:,} of {total:,}",
            )
            for column in claimed
        ]
        rows.append(el("tr", el("th", f"{row} ({total:,})", scope="row"), *cells))
    return el("table", el("thead", head), el("tbody", *rows), class_="confusion")


def _sheet(title: str, samples: Sequence[Sample]) -> Element | None:
    if not samples:
        return None
    faces = any(sample.thumbnails for sample in samples)
    return section(title, el("ul", *map(card, samples), class_="sheet" if faces else "sheet text"))


def _details(one: Evaluation) -> Element:
    parts = [
        el(
            "table",
            el("caption", "Versions"),
            *(el("tr", el("th", name, scope="row"), el("td", text)) for name, text in one.versions.items()),
            class_="versions",
        )
    ]
    if one.attributes and one.kind != "answers":
        rules = {name: RULES[name] for name in one.attributes}
        text = json.dumps(rules, indent=2, ensure_ascii=False)
        told = "A text claims a value where it uses a word of that value and of no other. In a caption, no word of a "
        told += "smile is the claim that there is none; in a prompt it is no wish."
        parts.append(
            el("details", el("summary", "What counts as a claim"), el("p", told), el("pre", text, tabindex="0"))
        )
    text = json.dumps(one.config, indent=2, ensure_ascii=False, default=str)
    parts.append(el("details", el("summary", "Configuration"), el("pre", text, tabindex="0")))
    return section("Details", *parts)


__all__ = ["Evaluation", "render"]
