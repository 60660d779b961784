"""The what-if section: which intervention is asked, and what is told of the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from aivc_graph.errors import QueryError
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.what_if import _moved_most, most_given, what_if_of
from aivc_graph.report.write import write_report
from aivc_graph.tissue.intervention import Intervention, knockout, set_interventions
from tests.report.runs import small_run


class Answer:
    """An answer as the what-if gives it: G1 falls clearly, G2 more but with no clear sign; half is unsupported."""

    def __init__(self, tissue: VirtualTissue) -> None:
        obs = tissue.niches().obs
        self.supported = (obs["x_um"] < obs["x_um"].median()).to_numpy()
        self.treated_before = np.zeros(len(obs), bool)
        self.reasons = ("half the nodes are <b>unlike</b>",)

    def plot(self, gene: str, section: str) -> Any:
        axes = Figure().subplots()
        axes.set_title(f"{section} {gene}")
        return axes

    def readout(self, what: str, by: str, genes: list[str] | None = None) -> pd.DataFrame:
        assert (what, by, genes) == ("genes", "niche", None)
        rows = [
            (niche, gene, estimate, 9.0, 9.0 + estimate, estimate - half, estimate + half)
            for niche in ("1", "2")
            for gene, estimate, half in (("G1", -8.0, 0.5), ("G4", -2.0, 0.5), ("G2", 5.0, 9.0), ("G3", 0.1, 0.01))
        ]
        columns = ["niche", "gene", "estimate", "untreated", "treated", "lower", "upper"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(
            shrunken=table["estimate"] / 2,
            shrunken_lower=table["estimate"] / 2 - 0.3,
            shrunken_upper=table["estimate"] / 2 + 0.3,
            p=0.01,
            p_adjusted=0.02,
            interval_over="region",
            n_units=7,
            unit="counts per 10,000",
            supported=table["niche"] == "1",
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, striped_section: Callable[..., Any]) -> Path:
    sections = [striped_section(name, seed=i) for i, name in enumerate("abc")]
    set_interventions(sections[0], (knockout("G1", dose=0.5, hours=6.0),))
    set_interventions(sections[2], (knockout("G1", dose=0.5, hours=48.0), knockout("G2")))
    return small_run(tmp_path_factory.mktemp("what_if") / "run", sections)


def test_asked_is_what_was_given_most_often(run: Path) -> None:
    asked, given = most_given(VirtualTissue.load(run).graph)
    assert asked == Intervention(kind="knockout", name="G1", targets={"G1": -1.0}, dose=0.5, hours=48.0)
    assert given.tolist() == [True, False, True]


def test_the_clearest_gene_is_told_and_what_is_unsupported_has_no_number(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualTissue, "intervene", lambda tissue, asked: Answer(tissue))
    found = what_if_of(VirtualTissue.load(run))
    assert found is not None and found["gene"] == "G4" and found["section"] == "b"
    assert found["share_supported"] == pytest.approx(0.5, abs=0.01)
    page = write_report(run).read_text()
    section = page[page.index('<section id="what-if"') :].split("</section>")[0]
    assert found["certain"] and "is significant after correction" in section
    assert "−2.00<br>−1.00" in section and "[−2.50, −1.50]<br>[−1.30, −0.700]" in section and "0.02" in section
    assert "&lt;b&gt;unlike" in section
    assert section.count("no prediction:") == 1 and section.count("<img") == 1
    assert "knockout of G1" in section


def test_without_an_answer_there_is_no_section(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def intervene(tissue: VirtualTissue, asked: Intervention) -> Answer:
        raise QueryError("intervene", "no grounds")

    monkeypatch.setattr(VirtualTissue, "intervene", intervene)
    assert what_if_of(VirtualTissue.load(run)) is None
    assert "What if" not in write_report(run).read_text()


def test_many_intervals_that_just_exclude_no_change_are_no_certainty() -> None:
    genes = [f"G{i}" for i in range(100)]
    table = pd.DataFrame({"niche": "1", "gene": genes, "untreated": 9.0, "n_units": 5, "supported": True})
    table["estimate"] = np.where(table["gene"] == "G7", 3.0, np.where(table["gene"] == "G9", 2.0, 0.1))
    table["shrunken"] = np.where(table["gene"] == "G5", 1.0, 0.0)

    def told(half: Any) -> tuple[str, bool]:
        return _moved_most(table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half), set())

    assert told(np.where(table["gene"] == "G7", 4.0, 0.9)) == ("G9", False)  # not the furthest, but the surest
    assert told(np.where(table["gene"] == "G9", 0.01, 0.9)) == ("G9", True)
    assert told(np.nan) == ("G5", False)  # the effects themselves are as uncertain as they like


def test_what_all_genes_share_is_no_news() -> None:
    genes = [f"G{i}" for i in range(100)]
    table = pd.DataFrame({"niche": "1", "gene": genes, "untreated": 99.0, "n_units": 5, "supported": True})
    table["estimate"] = np.where(table["gene"] == "G7", -2.0, 3.0)  # one falls, so the shares of all others rise
    table = table.assign(lower=table["estimate"] - 0.01, upper=table["estimate"] + 0.01, shrunken=0.0)
    assert _moved_most(table, set()) == ("G7", True)
