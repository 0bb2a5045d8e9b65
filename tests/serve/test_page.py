"""The playground's files. What they do is tested in a browser: see test_playground."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import httpx2
import pytest

PARTS = [f"playground/{name}" for name in ("app.js", "api.js", "painter.js", "style.css", "icon.svg")]


@pytest.fixture(scope="module")
def page(address: str) -> httpx2.Response:
    return httpx2.get(f"{address}/")


def test_the_page_may_use_this_server_only(address: str, page: httpx2.Response) -> None:
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    for part in PARTS:
        answer = httpx2.get(f"{address}/{part}")
        assert answer.status_code == 200
        outside = set(re.findall(r"(?:https?:)?//[\w.]+", answer.text)) - {"http://www.w3.org"}
        assert not {one for one in outside if "." in one}, part
    assert "//" not in page.text


def test_samples_are_portraits_of_the_package(address: str) -> None:
    script = httpx2.get(f"{address}/playground/app.js").text
    (listed,) = re.findall(r"samples = \[(.*)\]\.map", script)
    names = [name.lower().replace(" ", "-") for name in re.findall(r'"(.*?)"', listed)]
    assert len(names) == 4
    for name in names:
        answer = httpx2.get(f"{address}/playground/portraits/{name}")
        assert answer.content == (files("uniface_ray") / "assets" / "portraits" / f"{name}.jpg").read_bytes()


@pytest.mark.parametrize("path", ["playground/nothing", "playground/..%2Fpage.py", "playground/portraits/SOURCES"])
def test_nothing_else_is_there(address: str, path: str) -> None:
    assert httpx2.get(f"{address}/{path}").status_code == 404


class _Controls(HTMLParser):
    """Fields and whether each has a name that a screen reader can say."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: set[str] = set()
        self.unnamed: list[str] = []
        self.ids: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        attributes = dict(pairs)
        self.ids += [attributes["id"] or ""] if "id" in attributes else []
        if tag == "label":
            self._inside += 1
            self.labels.add(attributes.get("for") or "")
        named = self._inside or "aria-label" in attributes or attributes.get("id") in self.labels
        if tag in ("input", "select", "textarea", "progress") and not named:
            self.unnamed.append(str(attributes))

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "label"


def test_every_field_has_a_name(page: httpx2.Response) -> None:
    controls = _Controls()
    controls.feed(page.text)
    assert controls.unnamed == []
    assert len(controls.ids) == len(set(controls.ids))
    for needed in ('lang="en"', 'role="alert"', 'role="status"', 'aria-live="polite"', 'name="viewport"'):
        assert needed in page.text
