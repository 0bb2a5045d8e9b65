"""The playground in a real browser: Chromium, driven through its DevTools protocol.

Screenshots are kept in out/playground.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.pictures import encoded, picture
from tests.serve.conftest import Configure, serving
from uniface_ray.serve.app import build_app
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.loop import EngineLoop

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[e2e]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]
SHOTS = Path(__file__).parents[2] / "out" / "playground"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
KEY, LINE = make_key("ann")
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address(configure: Configure, loop: EngineLoop) -> Iterator[str]:
    with serving(build_app(configure(f"guard.keys=[{LINE}]"), {"random": loop})) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield found
        found.close()


@pytest.fixture(params=["desktop light", "phone dark"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page as it opens; at its end it must have had no error, asked nobody else, and fitted its window."""
    device, scheme = request.param.split()
    size = {"width": 1200, "height": 800} if device == "desktop" else {"width": 320, "height": 640}
    context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=device == "phone")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    page.goto(address)
    page.name = device
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert hosts - {""} == {address.removeprefix("http://")}
    assert [error for error in errors if "401" not in error] == []
    context.close()


def shot(page: Any, name: str) -> None:
    page.screenshot(path=SHOTS / f"{page.name}-{name}.png", full_page=True)


def choose(page: Any, panel: str) -> None:
    """Choose a file of one's own."""
    file = {"name": "face.jpg", "mimeType": "image/jpeg", "buffer": encoded(picture(0, (300, 400)))}
    page.locator(f"#panel-{panel} input[type=file]").set_input_files(file)


def says(page: Any, selector: str, part: str) -> None:
    """Wait until an element says so. (Its script policy lets nobody evaluate text in the page.)"""
    playwright.expect(page.locator(selector)).to_contain_text(part, timeout=WAIT_MS)


def done(page: Any, figure: str) -> None:
    """Wait for a drawing, or an error."""
    page.locator(f"{figure} .after:visible, #error:not(:empty)").first.wait_for()
    assert text(page, "#error") == ""


def text(page: Any, selector: str) -> str:
    return str(page.locator(selector).text_content())


def test_ask_draw_and_edit(page: Any) -> None:
    page.fill("#key", KEY)
    page.keyboard.press("Tab")
    says(page, "#model", "random")

    choose(page, "ask")
    page.fill("#question", "who?")
    page.click("#ask-form .primary")
    says(page, "#answer-facts", "tokens in")
    assert text(page, "#answer")
    says(page, "#status", "The answer is done")
    shot(page, "ask")

    page.click("#tab-draw")
    page.fill("#draw-form [name=steps]", "4")
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => window.seen.push(document.querySelector('#drawn img').src))
            .observe(document.querySelector('#drawn img'), {attributes: true, attributeFilter: ['src']});
    }""")
    page.click("#draw-form .primary")
    done(page, "#drawn")
    assert len(set(page.evaluate("window.seen"))) >= 3, "the face appears step by step"
    shot(page, "draw")

    page.click("#drawn [data-send=edit]")
    page.wait_for_selector("#paint", state="visible")
    page.locator("#paint").scroll_into_view_if_needed()
    area = page.locator("#paint").bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.4, area["y"] + area["height"] * 0.6)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.7, area["y"] + area["height"] * 0.7, steps=4)
    page.mouse.up()
    page.fill("#edit-form [name=steps]", "3")
    page.click("#edit-form .primary")
    done(page, "#edited")
    assert text(page, "#error") == ""
    shot(page, "edit")


def test_with_the_keyboard_alone(page: Any) -> None:
    page.focus("#key")
    page.keyboard.type(KEY)
    page.focus("#tab-ask")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-edit"
    page.focus("#panel-edit .samples button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#paint", state="visible")
    page.focus("#mark")
    page.keyboard.press("Enter")
    assert text(page, "#status") == "The box is marked"
    page.fill("#edit-form [name=steps]", "2")
    page.focus("#edit-form .primary")
    page.keyboard.press("Enter")
    done(page, "#edited")


def test_what_is_wrong_is_said_aloud(page: Any) -> None:
    page.click("#ask-form .primary")
    assert text(page, "#error") == "Choose a picture first."
    choose(page, "ask")
    page.click("#ask-form .primary")
    says(page, "#error", "API key")
    assert page.evaluate("document.activeElement.id") == "key"
    file = {"name": "face.jpg", "mimeType": "image/jpeg", "buffer": b"this is no picture"}
    page.locator("#panel-ask input[type=file]").set_input_files(file)
    says(page, "#error", "no picture")
    shot(page, "wrong")


def test_work_can_be_stopped(page: Any) -> None:
    page.fill("#key", KEY)
    page.click("#tab-draw")
    page.fill("#draw-form [name=steps]", "50")
    page.click("#draw-form .primary")
    page.click("#draw-form .stop")
    says(page, "#status", "The drawing was stopped")
    assert text(page, "#error") == ""
    assert page.evaluate("document.activeElement.textContent") == "Draw"
