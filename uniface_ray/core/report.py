"""report.html: one self-contained page about a run."""

import json
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from uniface_ray.core.markup import el
from uniface_ray.core.progress import clock, rate_text
from uniface_ray.core.report_charts import rate_chart, rows_chart, words_chart
from uniface_ray.core.report_data import RejectSample, Report
from uniface_ray.core.report_parts import card, origin, page, picture, section

_FILES_SHOWN = 50


def render(report: Report) -> str:
    """The page: HTML with styles, charts and thumbnails inside, no scripts, nothing loaded from elsewhere."""
    sections = [_results(report), _rejects(report), _charts(report), _details(report)]
    main = el("main", _numbers(report), *sections, id="main")
    return page(f"{report.title} · {report.state}", _header(report, sections), main, _footer(report))


def _header(report: Report, sections: Sequence[Element]) -> Element:
    links = [el("a", str(section.get("aria-label")), href=f"#{section.get('id')}") for section in sections]
    return el(
        "header",
        el("p", f"{report.task} · {report.model}", class_="eyebrow"),
        el("h1", report.title, " ", el("span", report.state, class_=f"badge {report.state}")),
        el(
            "p",
            el("span", report.source, class_="path"),
            el("span", " → ", class_="arrow"),
            el("span", report.sink, class_="path"),
        ),
        el("p", "started ", el("time", _readable(report.started), datetime=report.started), class_="muted"),
        el("nav", *links, aria_label="Sections"),
    )


def _numbers(report: Report) -> Element:
    counts = report.counts
    cells = [
        ("input", _count(counts["input"])),
        ("ok", _count(counts["ok"])),
        ("rejected", _count(counts["rejected"])),
        ("pending", _count(counts["pending"])),
        ("rows out", _count(counts["rows_out"])),
        ("rows/s", rate_text(report.rows_per_s).removesuffix(" rows/s")),
        ("duration", clock(report.duration_s)),
        ("replicas", f"{report.replicas:,}"),
    ]
    hours, price = report.costs.get("replica_hours"), report.costs.get("price_per_million_rows")
    cells += [("replica-hours", f"{hours:,.3g}")] if hours else []
    cells += [("price / 1M rows", f"{price:,.2f}")] if price is not None else []
    numbers = el("dl", *(el("div", el("dt", label), el("dd", value)) for label, value in cells), class_="numbers")
    parts = [(name, counts[name] or 0) for name in ("ok", "rejected", "pending")]
    bar = el("div", class_="outcome", aria_hidden="true")
    bar.extend(el("span", class_=name, style=f"flex-grow:{rows}") for name, rows in parts if rows)
    notes = el("ul", *(el("li", note) for note in report.notes), class_="notes")
    return el("section", numbers, bar, *([notes] if report.notes else []), aria_label="Numbers")


def _results(report: Report) -> Element:
    shown = report.samples
    if not shown:
        return section("Results", el("p", "No row has a result to show.", class_="muted"))
    of = f"{len(shown):,} of {_count(report.counts['rows_out'])} rows"
    faces = any(sample.thumbnails for sample in shown)
    sheet = el("ul", *(card(sample) for sample in shown), class_="sheet" if faces else "sheet text")
    return section("Results", el("p", of, class_="muted"), sheet)


def _rejects(report: Report) -> Element:
    if not report.rejects_by_kind:
        return section("Rejects", el("p", "No row was rejected.", class_="muted"))
    kinds = sorted(report.rejects_by_kind.items(), key=lambda item: -item[1])
    bars = _bars("Rejects by kind", ("kind", "rows"), [(kind, rows, f"{rows:,}") for kind, rows in kinds])
    if not report.rejects:
        return section("Rejects", bars)
    total = sum(report.rejects_by_kind.values())
    caption = f"{len(report.rejects):,} of {total:,} rejected rows; all of them are in data/status=rejected"
    head = el("tr", *(el("th", name, scope="col") for name in ("image", "why", "kind", "stage")))
    rows = [_reject(reject, report.source) for reject in report.rejects]
    table = el("table", el("caption", caption), el("thead", head), el("tbody", *rows), class_="rejects")
    return section("Rejects", bars, table)


def _reject(reject: RejectSample, source: str) -> Element:
    # Its path under the source: in a tree of folders, a base name alone finds nothing.
    folder = source.rstrip("/") + "/"
    name = reject.uri.removeprefix(folder)
    pictures = [picture(reject.thumbnail, name)] if reject.thumbnail else []
    return el(
        "tr",
        el("td", *pictures, origin(name, reject.uri, reject.row_id)),
        el("td", reject.message, dir="auto"),
        el("td", el("code", reject.kind)),
        el("td", reject.stage),
    )


def _charts(report: Report) -> Element:
    figures: list[tuple[str, Element]] = []
    if len(report.timeline) > 1 and report.timeline[-1].seconds > 0:
        figures.append(("Rows committed", rows_chart(report.timeline)))
        figures.append(("Pace", rate_chart(report.timeline)))
    if report.stage_seconds:
        total = sum(report.stage_seconds.values()) or 1.0
        stages = report.stage_seconds.items()
        bars = [(stage, s, f"{_time(s)} · {100 * s / total:.0f} %") for stage, s in stages]
        table = _bars("summed over all workers", ("stage", "time"), bars)
        figures.append(("Time by stage", table))
    if report.answer_words:
        figures.append(("Length of answers", words_chart(report.answer_words)))
    cards = [el("figure", el("figcaption", title), chart) for title, chart in figures]
    return section("Charts", el("div", *cards, class_="charts"))


def _details(report: Report) -> Element:
    config = el("pre", json.dumps(report.config, indent=2, ensure_ascii=False, default=str), tabindex="0")
    versions = el(
        "table",
        el("caption", "Versions"),
        *(el("tr", el("th", name, scope="row"), el("td", text)) for name, text in report.versions.items()),
        class_="versions",
    )
    parts = [versions, el("details", el("summary", "Configuration"), config)]
    if report.files:
        parts.append(el("details", el("summary", f"Files ({len(report.files):,})"), _files(report.files)))
    return section("Details", *parts)


def _files(files: Sequence[tuple[str, int, str]]) -> Element:
    shown = files[:_FILES_SHOWN]
    rest = len(files) - len(shown)
    caption = "SHA-256 of every output file"
    caption += f"; the first {len(shown)}, the other {rest:,} are in manifest.json" if rest else ""
    head = el("tr", *(el("th", name, scope="col") for name in ("file", "bytes", "SHA-256")))
    rows = [
        el(
            "tr",
            el("td", name, class_="path"),
            el("td", f"{size:,}", class_="number"),
            el("td", el("code", digest)),
        )
        for name, size, digest in shown
    ]
    return el("table", el("caption", caption), el("thead", head), el("tbody", *rows), class_="files")


def _footer(report: Report) -> Element:
    resume = {
        "done": "This run is done. The same command again takes up what is new in the source.",
        "running": "This run goes on; the page is written again when it ends.",
    }.get(report.state, "The same command resumes this run: what is committed stays, the rest is done.")
    code = (
        "import pyarrow.dataset as ds\n"
        f"rows = ds.dataset({report.sink.rstrip('/') + '/data/status=ok'!r})\n"
        "print(rows.head(3).to_pylist())"
    )
    return el(
        "footer",
        el("h2", "What next"),
        el("p", resume),
        el("p", "To read the rows:"),
        el("pre", code, tabindex="0"),
    )


def _bars(caption: str, heads: tuple[str, str], rows: Sequence[tuple[str, float, str]]) -> Element:
    """A table whose rows (name, value, value as text) carry a bar."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    head = el("tr", el("th", heads[0], scope="col"), el("th", heads[1], scope="col", colspan="2"))
    body = [
        el(
            "tr",
            el("th", name, scope="row"),
            el("td", text, class_="number"),
            el("td", el("span", style=f"width:{100 * value / most:.1f}%"), class_="track", aria_hidden="true"),
        )
        for name, value, text in rows
    ]
    return el("table", el("caption", caption), el("thead", head), el("tbody", *body), class_="bars")


def _count(rows: int | None) -> str:
    return "—" if rows is None else f"{rows:,}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def _readable(iso: str) -> str:
    """`2026-01-31T12:03:05.123+00:00` as `2026-01-31 12:03:05 +00:00`."""
    day, _, rest = iso.partition("T")
    zone = rest[len(rest.rstrip("Z0123456789:")) - 1 :] if "+" in rest else ""
    return f"{day} {rest[:8]} {zone}".strip()
