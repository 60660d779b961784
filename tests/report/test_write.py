"""The page of a run: whole, escaped, self-contained, and the same bytes again; missing parts are said, not hidden."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.errors import StoreError
from aivc_graph.report.write import write_report
from tests.report.full import full_evaluation
from tests.report.runs import NASTY, SCORES, small_run, write_scores

VOID = {"meta", "link", "img", "br", "path", "circle", "rect"}


class Page(HTMLParser):
    """What a browser finds: tags in order with their attributes, text, and tags that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or (self.open and self.open.pop() == tag), f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, striped_section: Callable[..., Any]) -> Path:
    sections = [
        striped_section(name, levels=("cell", "patch"), donor=f"d {name}", seed=i)
        for i, name in enumerate((NASTY, "s2"))
    ]
    return small_run(tmp_path_factory.mktemp("report") / "run", sections, name="<b>A & B<b>")


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    write_scores(run, SCORES)
    return write_report(run).read_text()


def test_names_are_shown_as_they_are_and_run_nothing(text: str) -> None:
    page = Page(text)
    assert page.open == [] and page.all("script") == [] and page.all("b")
    assert "<script" not in text and "<b>A" not in text
    assert NASTY in page.text and "<b>A & B<b>" in page.text


def test_nothing_is_asked_for_from_elsewhere(text: str) -> None:
    page = Page(text)
    for _, attributes in page.tags:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"@import|url\(", text)
    assert len(text.encode()) < 2_000_000
    policy = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_screen_reader_finds_its_way(text: str) -> None:
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert all(image.get("alt") and image.get("width") and image.get("height") for image in page.all("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_the_page_tells_what_it_must(text: str) -> None:
    said = " ".join(Page(text).text.split())
    for words in (
        "cells in 2 sections of 2 donors",
        "mostly stripe",
        "cell is a neighbour of cell",
        "cells and stain in",
        "Better than the best baseline, ridge: gain +0.020 [+0.010, +0.030].",
        "Better than the best baseline, NNLS: gain +0.030 [+0.020, +0.040].",
        "Intervals are over regions of the same tissue.",
        "torch-geometric",
        "epochs: 2",
    ):
        assert words in said, words
    assert said.count("Not evaluated.") == 2  # of four axes


def test_equal_runs_give_equal_bytes_wherever_they_lie(run: Path, text: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in run.iterdir():
        (moved / file.name).symlink_to(file)
    assert write_report(moved, tmp_path / "deep/page.html").read_text() == text


def test_missing_parts_are_said(run: Path, tmp_path: Path, text: str) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in run.iterdir():
        if file.name not in ("evaluation.json", "metrics.jsonl", "report.html", "graph.slides"):
            (bare / file.name).symlink_to(file)
    said = Page(write_report(bare).read_text()).text
    assert "Not evaluated. No score of this run" in said and "The model was not evaluated." in said
    assert "No epochs were run" in said
    assert "Found and true" not in said and "What if" not in said and "This tissue is simulated" not in said


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1, "results": [{"task": "t"}]}', "null"])
def test_a_damaged_evaluation_is_named_and_the_old_page_kept(run: Path, text: str, content: str) -> None:
    before = (run / "evaluation.json").read_text()
    (run / "evaluation.json").write_text(content)
    try:
        with pytest.raises(StoreError, match=r"(?s)evaluation\.json: .*; (run aivc evaluate again|use the version)"):
            write_report(run)
    finally:
        (run / "evaluation.json").write_text(before)
    assert (run / "report.html").read_text() == text
    assert json.loads(before) == SCORES


def test_one_niche_one_section_no_slide_no_label(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    section = striped_section("plain", n=60, structure=False)
    section.shapes["cell"] = section.shapes["cell"].drop(columns="label")
    said = Page(write_report(small_run(tmp_path / "run", [section], epochs=0)).read_text()).text
    assert "as stained" not in said and "Other sections" not in said
    assert "found no distinct niches" in said or "niches were found in" in said


def test_a_full_evaluation_is_told_at_a_glance_and_on_a_card(run: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(full_evaluation().model_dump(mode="json")))
    page = Page(write_report(run, tmp_path / "page.html").read_text())
    said = " ".join(page.text.split())
    assert page.open == []
    for words in (
        "mean rule",
        "Together",
        "Weights: modality 0.50, scale 0.50",
        "insufficient groups",
        "nobody measured it",
    ):
        assert words in said, words
    assert "Card of this run" in said and "test d6, d7" in said
    assert "response to intervention (needs truth & <more>)" in said
    drawn = [tag["aria-label"] or "" for tag in page.all("svg") if tag.get("role") == "img"]
    assert len(drawn) == 5 and all("best baseline" in label for label in drawn)
