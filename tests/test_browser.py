"""The report and the explorer in Chromium; `make test-browser` runs this."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seqssvae.data.readers import iterate_rows
from seqssvae.show.explorer import open_run
from seqssvae.show.explorer_page import serve
from seqssvae.show.report import write_report
from tests.support.portraits import make_portrait
from tests.support.rows import write_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Small = tuple[Path, Path]
BUTTONS = ["Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "wanted Chromium: apt-get install chromium, or CHROMIUM=PATH"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(params=["desktop light", "phone dark"])
def page(browser: "Browser", request: pytest.FixtureRequest) -> Iterator["Page"]:
    """A page that must neither log an error nor make a request to another machine."""
    size, scheme = request.param.split()
    context = browser.new_context(
        viewport={"width": 1280 if size == "desktop" else 390, "height": 840}, color_scheme=scheme
    )
    errors: list[str] = []
    page = context.new_page()

    def check_request(request: Any) -> None:
        if not request.url.startswith(("data:", "blob:", "file:", "http://127.0.0.1:")):
            errors.append(request.url)

    def check_message(message: Any) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("request", check_request)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", check_message)
    yield page
    assert errors == []
    context.close()


def check_layout(page: "Page") -> None:
    """The page does not scroll sideways, and its text contrasts with the background."""
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
    """The hover text of the first point of a map."""
    point = page.locator(f"{map} .scatterlayer .trace").first.locator(".point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 - 9, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    text = page.locator(f"{map} .hoverlayer .hovertext").first
    text.wait_for()
    return text.text_content() or ""


def check_mode_bar(page: "Page", map: str) -> None:
    """The buttons of a map: none offers to upload its data."""
    titles = page.locator(f"{map} .modebar-btn").evaluate_all(
        "buttons => buttons.map(button => button.getAttribute('data-title'))"
    )
    assert titles == ["Download plot as a PNG", *BUTTONS]


def test_the_report_opens_from_disk(page: "Page", tmp_path: Path) -> None:
    """Hovering shows a sequence; one that is a script is shown as text."""
    path = tmp_path / "report.html"
    path.write_text(write_report(make_portrait()), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator("#z-tsne .point").first.wait_for()
    check_layout(page)
    assert page.locator("main > .summary p").count() == 3
    for map in ("#z-tsne", "#logits-tsne"):
        check_mode_bar(page, map)
        assert "<script>window.hurt = 1</script>" in hover(page, map)
    assert page.evaluate("window.hurt") is None
    assert page.locator("img").count() == page.locator("main b, main i").count() == 0


BOX = "element => (({left, top, right, bottom}) => [left, top, right, bottom])"
BOX += "(element.getBoundingClientRect())"


def boxes(page: "Page", selector: str) -> list[list[float]]:
    """Left, top, right and bottom of the elements, in pixels."""
    found: list[list[float]] = page.locator(selector).evaluate_all(f"all => all.map({BOX})")
    return found


def test_the_report_has_two_columns_on_a_desktop_and_one_on_a_phone(
    page: "Page", tmp_path: Path
) -> None:
    """Pictures and maps are side by side or one below the other, none over another or cut off."""
    path = tmp_path / "report.html"
    path.write_text(write_report(make_portrait()), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator("#logits-tsne .point").first.wait_for()
    width: int = page.evaluate("innerWidth")
    for pair in ("#z-tsne .main-svg:first-child, #z-pca .main-svg:first-child", ".picture svg"):
        first, second, *_ = boxes(page, pair)
        assert (second[0] >= first[2]) if width > 1000 else (second[1] >= first[3])
    for left, _, right, _ in boxes(page, ".picture svg, .main-svg"):
        assert 0 <= left < right <= width
    heights = [bottom - top for _, top, _, bottom in boxes(page, ".picture svg text")]
    assert min(heights) > 8  # pixels of a line of text that is not turned, or more
    for _, top, _, bottom in boxes(page, ".sequence"):
        assert bottom - top <= 130  # a long one scrolls
    value, meaning = (boxes(page, f".figures td:nth-child({n})")[1] for n in (2, 3))
    assert (meaning[0] >= value[2]) if width > 1000 else (meaning[1] >= value[3])
    assert meaning[2] - meaning[0] > 300


def test_a_large_confusion_matrix_can_be_read(page: "Page", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    labels = tuple(f"a long name of label {i}" for i in range(18))
    path.write_text(write_report(make_portrait(labels)), encoding="utf-8")
    page.goto(path.as_uri())
    check_layout(page)
    heights = [b - t for _, t, _, b in boxes(page, "[aria-label='confusion matrix'] text")]
    assert min(heights) > 8


def test_the_explorer(page: "Page", explorer: str) -> None:
    from playwright.sync_api import expect

    page.goto(explorer)
    page.fill("#text", "cdcd")
    page.locator("#classified tr").nth(2).wait_for()
    assert (page.locator("#classified tr").nth(1).text_content() or "").startswith("right")
    assert "Novelty" in (page.locator("#novelty").text_content() or "")
    assert "one of these in 90 %" in (page.locator("#novelty").text_content() or "")
    assert set(page.locator("#nearest td").all_text_contents()[0]) == set("cd")
    assert (page.locator("#reasons").text_content() or "").startswith("cdcd")
    page.locator("#generate-label").get_by_text("right", exact=True).click()
    page.get_by_role("button", name="Generate").click()
    page.locator("#generated li").nth(5).wait_for()
    first = page.locator("#generated").text_content() or ""
    page.get_by_role("button", name="Generate").click()
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
    page.locator("#walked li:last-child.selected").wait_for()
    page.fill("#text", " ")
    page.locator("#classified .error").wait_for()
    check_layout(page)


def test_the_explorer_map(page: "Page", explorer: str) -> None:
    page.goto(explorer)
    page.locator("#map .point").first.wait_for()
    check_mode_bar(page, "#map")
    assert set((hover(page, "#map")).split("left; ")[0]) <= set("abcd")
    assert page.get_by_text("It should not cluster by label").count() == 1
    page.fill("#text", "ab")
    page.locator("#map .trace").nth(2).wait_for()  # the star
    page.locator("#map-kind").get_by_text("t-SNE").click()
    page.locator("#map .trace").nth(2).wait_for()
    page.fill("#text", "")
    page.locator("#map .trace").nth(2).wait_for(state="detached")


def test_rows_are_labelled_in_the_explorer_and_saved(
    page: "Page", small_run: Small, tmp_path: Path
) -> None:
    """The fields offer the classes, and take new ones; without a label there is no file."""
    rows = [{"text": part * n} for part in ("ab", "cd", "ac") for n in (1, 2, 3)]
    with served(small_run[0], write_rows(tmp_path / "pool.jsonl", rows)) as address:
        page.goto(address)
        page.get_by_role("button", name="Choose rows").click()
        fields = page.locator("#to-label input")
        fields.nth(2).wait_for()
        shown = page.locator("#to-label td:first-child").all_text_contents()
        page.get_by_role("button", name="Save labels").click()
        page.locator("#saved .error").wait_for()
        assert fields.first.get_attribute("list") == "label-names-0"
        assert page.locator("#label-names-0 option").count() == 2
        page.get_by_label(f"label of {shown[0]}", exact=True).fill("right")
        fields.nth(2).fill("new one")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Save labels").click()
        saved = tmp_path / "labels.jsonl"
        waiting.value.save_as(saved)
        page.get_by_text("2 rows in labels.jsonl").wait_for()
        got = [(row.sequence, row.label) for row in iterate_rows(saved)]
        assert got == [(shown[0], "right"), (shown[2], "new one")]
        check_layout(page)
        assert boxes(page, "#to-label input")[0][2] <= page.evaluate("innerWidth")


@contextlib.contextmanager
def served(run: Path, data: Path | None = None) -> Iterator[str]:
    """Address of the explorer of a run."""
    with serve(open_run(run, data), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{server.host}:{server.port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def explorer(small_run: Small) -> Iterator[str]:
    """Address of the explorer of the small model."""
    with served(small_run[0]) as address:
        yield address
