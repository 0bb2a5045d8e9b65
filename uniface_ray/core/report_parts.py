"""What all report pages are made of."""

import base64
from pathlib import Path
from xml.etree.ElementTree import Element

from uniface_ray.core.markup import el, to_html
from uniface_ray.core.report_data import Sample

_CSS = Path(__file__).with_name("report.css")


def page(title: str, *body: Element) -> str:
    """An HTML page with its styles inside, no scripts, nothing loaded from elsewhere."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", _CSS.read_text(encoding="utf-8")),
    )
    return "<!doctype html>\n" + to_html(el("html", head, el("body", *body), lang="en")) + "\n"


def section(title: str, *children: Element) -> Element:
    """A part of the page that the navigation can lead to."""
    return el("section", el("h2", title), *children, id=title.lower(), aria_label=title)


def card(sample: Sample) -> Element:
    """A result on a contact sheet."""
    name = basename(sample.uri)
    answer = el("p", sample.text, dir="auto", class_="answer")
    details = [el("p", sample.details, dir="auto", class_="details")] if sample.details else []
    caption = el("figcaption", answer, *details, origin(name, sample.uri, sample.row_id))
    pictures = [picture(jpeg, name) for jpeg in sample.thumbnails]
    shown = [el("div", *pictures, class_="pair")] if len(pictures) > 1 else pictures
    return el("li", el("figure", *shown, caption))


def origin(name: str, uri: str, row_id: int) -> Element:
    """Where a row came from."""
    row = el("small", f"row {row_id}")
    return el("p", el("span", name, class_="path", title=uri), " ", row, class_="origin")


def picture(jpeg: bytes, name: str) -> Element:
    """A thumbnail, inside the page."""
    data = base64.b64encode(jpeg).decode()
    return el("img", src=f"data:image/jpeg;base64,{data}", alt=name, width=176, height=176, loading="lazy")


def basename(uri: str) -> str:
    """The last part of an address."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


__all__ = ["basename", "card", "origin", "page", "picture", "section"]
