"""The report and the explorer in Chromium, by clicks; `make test-browser` runs this."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seqssvae.show.explorer import open_run
from seqssvae.show.explorer_page import serve
from seqssvae.show.report import write_report
from tests.support.portraits import make_portrait

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Small = tuple[Path, Path]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "wanted Chromium: apt-get install chromium, or CHROMIUM=PATH"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(params=["desktop light", "phone dark"])
def page(browser: "Browser", request: pytest.FixtureRequest) -> Iterator["Page"]:
    """A page that must neither complain nor ask another machine for anything."""
    size, scheme = request.param.split()
    context = browser.new_context(
        viewport={"width": 1200 if size == "desktop" else 390, "height": 840}, color_scheme=scheme
    )
    wrong: list[str] = []
    found = context.new_page()

    def note_request(asked: Any) -> None:
        if not asked.url.startswith(("data:", "blob:", "file:", "http://127.0.0.1:")):
            wrong.append(asked.url)

    def note_error(told: Any) -> None:
        if told.type == "error":
            wrong.append(told.text)

    found.on("request", note_request)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", note_error)
    yield found
    assert wrong == []
    context.close()


def check_layout(page: "Page") -> None:
    """Nothing stands out at the side, and letters can be told from the page."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ink, paper = page.evaluate(
        "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
    )
    assert abs(lightness(ink) - lightness(paper)) > 150
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (lightness(paper) < 60) == dark


def lightness(color: str) -> float:
    """The mean of `rgb(r, g, b)`."""
    return sum(float(part) for part in color[4:-1].split(",")[:3]) / 3


def hover(page: "Page", map: str) -> str:
    """What is told where the mouse is over the first point of a map."""
    point = page.locator(f"{map} .scatterlayer .trace").first.locator(".point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 - 9, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    told = page.locator(f"{map} .hoverlayer .hovertext").first
    told.wait_for()
    return told.text_content() or ""


def test_the_report_opens_from_disk(page: "Page", tmp_path: Path) -> None:
    """Hover shows a sequence; one that is a script stays a text."""
    path = tmp_path / "report.html"
    path.write_text(write_report(make_portrait()), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator("#t-sne-of-z .point").first.wait_for()
    check_layout(page)
    for map in ("#t-sne-of-z", "#t-sne-of-log-q-y-x"):
        assert "<script>window.hurt = 1</script>" in hover(page, map)
    assert page.evaluate("window.hurt") is None
    assert page.locator("img").count() == page.locator("main b, main i").count() == 0


def test_the_explorer_by_clicks(page: "Page", explorer: str) -> None:
    from playwright.sync_api import expect

    page.goto(explorer)
    page.fill("#text", "cdcd")
    page.locator("#classified tr").nth(2).wait_for()
    assert (page.locator("#classified tr").nth(1).text_content() or "").startswith("right")
    assert "Novelty" in (page.locator("#novelty").text_content() or "")
    page.locator("#generate-label").get_by_text("right", exact=True).click()
    page.get_by_role("button", name="Write").click()
    page.locator("#generated li").nth(5).wait_for()
    first = page.locator("#generated").text_content() or ""
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#generated")).not_to_have_text(first)
    assert set(page.locator("#generated").text_content() or "") <= set("abcd(empty)")
    page.fill("#transfer-text", "abab")
    page.locator("#transferred tr").nth(1).wait_for()
    page.fill("#from", "ab")
    page.fill("#to", "cdcdcd")
    page.locator("#walked li").nth(10).wait_for()
    thumb = page.get_by_role("slider").nth(1)
    thumb.focus()
    for _ in range(5):
        thumb.press("ArrowRight")
    page.locator("#walked li:last-child.here").wait_for()
    page.fill("#text", " ")
    page.locator("#classified .wrong").wait_for()
    check_layout(page)


def test_the_explorer_map(page: "Page", explorer: str) -> None:
    page.goto(explorer)
    page.locator("#map .point").first.wait_for()
    assert set((hover(page, "#map")).split("left; ")[0]) <= set("abcd")
    page.fill("#text", "ab")
    page.locator("#map .trace").nth(2).wait_for()  # the star
    page.locator("#map-kind").get_by_text("t-SNE").click()
    page.locator("#map .trace").nth(2).wait_for(state="detached")


@pytest.fixture(scope="module")
def explorer(small_run: Small) -> Iterator[str]:
    """Where the explorer of the small model answers."""
    with serve(open_run(small_run[0]), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{server.host}:{server.port}/"
        server.shutdown()
        thread.join()
