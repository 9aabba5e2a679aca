"""The report's page in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright
from test_report import written

from analysis import report

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chrome-headless-shell")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, headless: playwright's own, or one that is installed."""
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        if installed is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip(f"no browser: playwright install chromium, or any of {', '.join(BROWSERS)} on the PATH")
        made = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_nothing_is_fetched_and_nothing_is_amiss(folder: Path, browser: Browser, scheme: str) -> None:
    shown = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 740})
    asked: list[str] = []
    said: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    address = (folder / report.PAGE).as_uri()
    shown.goto(address)
    assert [one for one in asked if not one.startswith("data:")] == [address]
    assert said == []
    assert shown.evaluate("document.documentElement.scrollWidth") == 360  # a phone: only tables go sideways
    shown.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert shown.evaluate("document.documentElement.scrollWidth") == 360
    assert shown.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert Axe().run(shown).response["violations"] == []
    shown.close()


def test_in_a_browser_figures_are_legible_and_what_goes_on_says_so(folder: Path, browser: Browser) -> None:
    """On a phone figures keep the size that they were drawn for; on a wide screen tables use its width."""
    shown = browser.new_page(viewport={"width": 400, "height": 800})
    shown.goto((folder / report.PAGE).as_uri())
    widths = shown.evaluate("[...document.querySelectorAll('.picture img')].map(one => one.clientWidth)")
    assert widths
    assert min(widths) >= 800  # of 9 inches, with letters of 8 points: 10 pixels or more
    hints = "[...document.querySelectorAll('figcaption')].map(one => getComputedStyle(one, '::before').content)"
    assert shown.evaluate(hints).count('"\N{LEFT RIGHT ARROW} The figure goes on sideways. "') == len(widths)
    shadow = shown.evaluate("getComputedStyle(document.querySelector('.scroll')).backgroundAttachment")
    assert shadow == "local, local, scroll, scroll"
    assert shown.locator("#table-verdicts").evaluate("one => one.closest('.scroll').scrollWidth") > 400
    shown.set_viewport_size({"width": 1280, "height": 800})
    box = shown.locator(".scroll:has(#table-verdicts)").bounding_box()
    assert box["x"] + box["width"] > 1200
    assert "goes on" not in str(shown.evaluate(hints))
    shown.close()


def test_in_a_browser_keys_reach_the_skip_link_and_the_tables(folder: Path, browser: Browser) -> None:
    shown = browser.new_page()
    shown.goto((folder / report.PAGE).as_uri())
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert shown.locator(".skip").bounding_box()["x"] >= 0  # it is seen once it is reached
    shown.keyboard.press("Enter")
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.closest('main') !== null")
    reached = set()
    for _ in range(400):
        shown.keyboard.press("Tab")
        reached.add(shown.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
    assert {"table-verdicts", "table-sets", "table-models"} <= reached
    tree = shown.locator("body").aria_snapshot()
    for role in ("banner", 'navigation "Contents"', "main", "contentinfo", 'heading "Summary" [level=2]'):
        assert role in tree
    shown.close()
