"""report.html: parsed as a browser would, and looked at for what must and must not be there."""

import dataclasses
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uniface_ray.core.report import render
from uniface_ray.core.report_data import Point, RejectSample, Report, Sample

_VOID = {"meta", "img", "br", "hr", "link", "input"}
_HOSTILE = """</style></title><script>alert("x")</script><img src=http://x onerror='a()'> & "quoted" 'it'"""


class Page(HTMLParser):
    """Elements with their attributes, the page's text, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def jpeg(size: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size // 4, size // 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((size, size)).save(out, "JPEG", quality=85)
    return out.getvalue()


def sample(number: int, thumbnail: bytes | None) -> Sample:
    pictures = (thumbnail,) if thumbnail else ()
    return Sample(number, f"s3://faces/2024/a/{number}.jpg", f"A smiling woman, {number}.", pictures)


def report(faces: int = 3, thumbnail: bytes | None = None, **changes: Any) -> Report:
    content = Report(
        title="Captions for faces",
        task="caption",
        model="uniface-tiny",
        source="s3://faces/2024/",
        sink="s3://captions/run-3/",
        state="done",
        started="2026-03-02T12:01:44.220+00:00",
        duration_s=93.4,
        counts={"input": 5120, "ok": 5111, "rejected": 9, "pending": 0, "rows_out": 5111},
        rows_per_s=56.12,
        replicas=2,
        timeline=[Point(0, 0), *(Point(8 + 4.0 * i, 256 * i) for i in range(1, 21))],
        rejects_by_kind={"too_large": 2, "unreadable_image": 7},
        stage_seconds={"read": 12.1, "decode": 33.9, "engine": 121.0, "commit": 2.2},
        answer_words={1: 4, 9: 100, 17: 3000, 18: 2000, 61: 7},
        samples=[sample(i, thumbnail) for i in range(faces)],
        rejects=[RejectSample(77, "s3://faces/2024/b/bad.jpg", "too_large", "over the limit", "decode", thumbnail)],
        config={"engine": {"batch_size": 64}},
        versions={"uniface_ray": "0.1.0", "ray": "2.60.0"},
        files=[(f"data/status=ok/part-{i:05}.parquet", 31000 + i, f"{i:064x}") for i in range(60)],
        notes=["12 files of the source are not images by name."],
    )
    return dataclasses.replace(content, **changes)


def test_the_page_is_well_formed_and_asks_for_nothing():
    page = Page(render(report(thumbnail=jpeg(16))))
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:image/jpeg;base64,", "#")), value
    assert not re.search(r"url\(|@import", render(report()))


def test_anchors_lead_somewhere_and_images_have_a_name():
    page = Page(render(report(thumbnail=jpeg(16))))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {str(link["href"])[1:] for link in page.all("a")} <= ids
    assert all(image["alt"] for image in page.all("img"))
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in page.elements}
    assert len(page.all("caption")) == len(page.all("table"))


def test_the_numbers_of_the_run_are_there():
    text = Page(render(report())).text
    for number in ("5,120", "5,111", "9", "56.1", "1:33", "0.1.0", "2.60.0"):
        assert number in text
    for word in ("over the limit", " b/bad.jpg ", " 1.jpg ", "row 77"):
        assert word in text
    assert "A smiling woman, 2." in text
    assert "s3://captions/run-3/data/status=ok" in text
    assert "12 files of the source" in text


def test_markup_in_any_text_stays_text():
    hostile = report(
        title=_HOSTILE,
        source=_HOSTILE,
        model=_HOSTILE,
        samples=[Sample(1, _HOSTILE, _HOSTILE, (jpeg(16),), _HOSTILE)],
        rejects=[RejectSample(1, _HOSTILE, _HOSTILE, _HOSTILE, _HOSTILE, jpeg(16))],
        rejects_by_kind={_HOSTILE: 1},
        stage_seconds={_HOSTILE: 1.0},
        config={_HOSTILE: _HOSTILE},
        versions={_HOSTILE: _HOSTILE},
        files=[(_HOSTILE, 1, _HOSTILE)],
        notes=[_HOSTILE],
    )
    page = Page(render(hostile))
    assert not page.all("script")
    assert len(page.all("img")) == 2
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count(_HOSTILE) >= 10


def test_a_file_name_that_is_not_utf8_still_gives_a_page():
    reject = RejectSample(1, "/faces/\udcff.jpg", "not_found", "gone", "read", None)
    html = render(report(faces=0, rejects=[reject]))
    assert "?.jpg" in html.encode().decode()


@pytest.mark.parametrize(
    ("source", "uri", "name"),
    [("/faces", "/faces/a/1.jpg", "a/1.jpg"), ("faces", "/home/me/faces/1.jpg", "/home/me/faces/1.jpg")],
)
def test_a_reject_is_named_by_its_path_under_the_source(source, uri, name):
    reject = RejectSample(1, uri, "not_found", "gone", "read", None)
    assert f" {name} " in Page(render(report(source=source, rejects=[reject]))).text


def test_faces_are_on_the_page_only_where_thumbnails_are():
    assert len(Page(render(report(thumbnail=jpeg(16)))).all("img")) == 4
    without = render(report())
    assert not Page(without).all("img")
    assert "data:image" not in without
    assert "A smiling woman, 2." in without


def test_forty_samples_stay_under_two_megabytes():
    html = render(report(faces=40, thumbnail=jpeg(192)))
    assert len(Page(html).all("img")) == 41
    assert len(html.encode()) < 2_000_000


@pytest.mark.parametrize("words", [{1: 4, 17: 3000, 400: 7}, {5: 1}, {0: 3, 1: 2}, {20: 5, 43: 1, 44: 2}])
def test_the_histogram_counts_every_answer_once(words):
    html = render(report(answer_words=words, timeline=[]))
    bars = re.findall(r"<title>\d+(?: to \d+)? words: ([\d,]+)</title>", html)
    assert sum(int(count.replace(",", "")) for count in bars) == sum(words.values())
    assert len(bars) <= 41


def test_the_pace_adds_up_to_the_rows():
    bars = re.findall(r"<title>[\d,]+ to [\d,]+ s: ([\d,.]+) rows/s</title>", render(report()))
    mean = sum(float(rate.replace(",", "")) for rate in bars) / len(bars)
    assert mean == pytest.approx(5120 / 88, rel=0.01)


def test_a_long_run_draws_a_bounded_chart():
    timeline = [Point(float(i), 256 * i) for i in range(50_000)]
    html = render(report(timeline=timeline))
    assert len(html) < len(render(report())) + 20_000
    assert "hours since the start" in html


def test_a_run_without_rows_has_a_page_too():
    counts = {"input": None, "ok": 0, "rejected": 0, "pending": None, "rows_out": 0}
    nothing = {"rejects_by_kind": {}, "stage_seconds": {}, "answer_words": {}, "rejects": [], "files": []}
    page = Page(render(report(faces=0, state="failed", counts=counts, timeline=[Point(0, 0)], **nothing)))
    assert "No row was rejected." in page.text
    assert "failed" in page.text
    assert not page.all("svg")


@pytest.mark.parametrize("ends", [((0, 0), (0, 5)), ((0, 7), (3, 7)), ((2, 1), (2, 9)), ((0, 0), (0.01, 1))])
def test_odd_timelines_draw_finite_numbers(ends):
    page = Page(render(report(timeline=[Point(*end) for end in ends])))
    for tag, attributes in page.elements:
        if tag in ("rect", "text", "line", "polyline", "polygon"):
            assert not re.search("nan|inf", " ".join(str(value) for value in attributes.values()))


@pytest.mark.parametrize(("state", "words"), [("done", "is done"), ("interrupted", "resumes")])
def test_the_page_says_how_to_go_on(state, words):
    assert words in Page(render(report(state=state))).text


def test_files_are_capped_and_the_page_says_so():
    text = Page(render(report())).text
    assert "the first 50, the other 10 are in manifest.json" in text
    assert "part-00049" in text
    assert "part-00050" not in text
