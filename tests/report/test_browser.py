"""The page in a real browser: Debian's Chromium, without a window and without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.report.write import write_report
from tests.report.full import full_evaluation
from tests.report.runs import NASTY, small_run, write_scores

BROWSER = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = 390, 1280
MEASURES = """() => ({
    wide: document.documentElement.scrollWidth,
    cut: [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth + 1)
        .map(one => one.getAttribute("aria-label")),
    tall: [...document.images].map(image => image.getBoundingClientRect().height),
    pictures: [...document.images].map(image => image.naturalWidth),
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    clipped: [...document.querySelectorAll("h1, h2, h3, p, li, dd, figcaption")]
        .filter(one => !one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth + 1)
        .map(one => one.textContent.trim().slice(0, 60)),
})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, striped_section: Callable[..., Any]) -> Path:
    sections = [striped_section(name, levels=("cell", "patch"), seed=i) for i, name in enumerate((NASTY, "s" * 120))]
    run = small_run(tmp_path_factory.mktemp("browser") / "run", sections)
    write_scores(run, full_evaluation().model_dump(mode="json"))
    return write_report(run)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if BROWSER is None and os.environ.get("CI") != "true":
        pytest.skip("no chromium on the path: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER or "chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_looks_right(chromium: Any, report: Path, width: int, scheme: str) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    found = page.evaluate(MEASURES)
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert len(found["pictures"]) >= 3 and min(found["pictures"]) > 0
    assert found["wide"] <= width and found["clipped"] == []
    assert found["cut"] == [] and max(found["tall"]) <= 0.8 * 900 + 1
    light = [sum(map(int, found[key].removeprefix("rgb(").removesuffix(")").split(","))) for key in ("ground", "ink")]
    assert light[0] > light[1] if scheme == "light" else light[0] < light[1]


def test_it_prints_on_a_few_pages(chromium: Any, report: Path) -> None:
    page = chromium.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    paper = page.pdf(format="A4")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()
    assert paper.startswith(b"%PDF") and 2 <= paper.count(b"/Type /Page\n") <= 15


def test_a_planted_fault_is_seen(chromium: Any, report: Path, tmp_path: Path) -> None:
    """The measures can fail: a torn picture, a script and a wide box are noticed."""
    bad = tmp_path / "bad.html"
    fault = '<img src="data:image/png;base64,AAAA"><div style="width:2000px">x</div><script>1</script></main>'
    bad.write_text(report.read_text().replace("</main>", fault))
    page = chromium.new_page(viewport={"width": PHONE, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(bad.as_uri())
    found = page.evaluate(MEASURES)
    page.close()
    assert found["wide"] > PHONE and min(found["pictures"]) == 0
    assert any("Content Security Policy" in text for text in said)
