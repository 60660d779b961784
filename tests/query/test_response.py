"""A response asked in words: who is treated in each row, what lies out of support, and which words are refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import Config
from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.train import train
from aivc_graph.query.questions.question import question
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.what_if import what_if_of
from aivc_graph.report.write import write_report
from aivc_graph.tissue.intervention import Intervention, knockout, set_interventions
from aivc_graph.training.settings import TrainingConfig

CONFIG = Config(model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=1, device="cpu"))
ASKED = ["knockout:G3"]


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of two donors with an untreated and a treated section each."""
    sections = []
    for i, donor in enumerate("ab"):
        sections += [striped_section(f"{donor}_{what}", n=600, seed=i, donor=donor) for what in ("none", "done")]
        set_interventions(sections[-1], (knockout("G3", hours=24),))
        # Other counts than its untreated twin's.
        sections[-1].tables["cell_rna"].X = sections[-1].tables["cell_rna"].X[:, ::-1].copy()
    return train(build_graph(sections), CONFIG, tmp_path_factory.mktemp("respond") / "run").folder


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


def test_each_row_says_how_many_of_its_nodes_are_treated(
    tissue: VirtualTissue, caplog: pytest.LogCaptureFixture
) -> None:
    table = tissue.ask("response", intervention=ASKED, where="section=a_none", at="niche", genes=["G3", "G5"])
    niches = tissue.niches().obs
    treated = niches[niches["section"] == "a_none"]["niche"].value_counts()
    for row in table.itertuples():
        assert row.n_treated == treated.get(row.niche, 0) < row.n_nodes
    assert table["n_treated"].sum() == 2 * 600
    assert caplog.text.count("rows average over all nodes of a niche, treated or not: see n_treated of n_nodes") == 1
    assert "treated already" not in caplog.text
    assert (table["n_nodes"] <= 1200).all()  # of the two sections that were untreated
    cells = tissue.ask("response", intervention=ASKED, where="section=a_none", at="cell", genes=["G3"])
    assert ((cells["n_treated"] == 1) == (cells["section"] == "a_none")).all()
    caplog.clear()
    whole = tissue.ask("response", intervention=ASKED, at="niche", genes=["G3"])
    assert (whole["n_treated"] == whole["n_nodes"]).all() and "rows average" not in caplog.text


def test_sections_treated_when_measured_are_never_called_untreated(
    tissue: VirtualTissue, caplog: pytest.LogCaptureFixture
) -> None:
    """What they are without it is not known: niches leave them out, rows of their own have no number and say why."""
    with caplog.at_level(logging.WARNING):
        niches = tissue.ask("response", intervention=ASKED, at="niche", genes=["G3"])
    said = "treated already when measured, so not known untreated"
    assert f"{said}, and left out of averages: a_done, b_done" in caplog.text
    cells = tissue.ask("response", intervention=ASKED, at="cell", genes=["G3"])
    done = cells["section"].str.endswith("_done")
    assert cells[done][["untreated", "treated", "estimate", "shrunken"]].isna().all(axis=None)
    assert (cells[done]["why"] == said).all() and np.isfinite(cells[~done]["untreated"]).all()
    niche = tissue.niches().obs["niche"].to_numpy()
    for row in niches.itertuples():
        inside = cells[(niche == row.niche) & ~done]
        assert row.untreated == pytest.approx(inside["untreated"].mean(), rel=1e-4) and row.n_nodes == len(inside)


def test_dose_zero_changes_nothing_whatever_hours_are_meant(tissue: VirtualTissue) -> None:
    for asked in ({"intervention": ["knockout:G3@0"]}, {"intervention": ASKED, "dose": 0, "hours": 500}):
        table = tissue.ask("response", **asked, at="niche")
        assert table["supported"].all() and (table["why"] == "").all()
        assert (table[["estimate", "lower", "upper", "shrunken"]] == 0).all(axis=None)
        np.testing.assert_array_equal(table["treated"], table["untreated"])
    late = tissue.ask("response", intervention=ASKED, hours=500, at="niche")
    assert late["estimate"].isna().all() and late["why"].str.contains("hours 500 is outside the trained 24").all()


def test_hours_that_nobody_named_are_those_of_training(tissue: VirtualTissue) -> None:
    table = tissue.intervene(knockout("G3")).readout()
    assert table["supported"].all()
    assert (
        not tissue.intervene(knockout("G3", hours=23.0))
        .supported[~tissue.intervene(knockout("G3")).treated_before]
        .any()
    )


def test_drawn_is_the_gene_that_changes_most_on_a_section_that_was_untreated(tissue: VirtualTissue) -> None:
    asked = {"intervention": ASKED, "at": "niche"}
    table = tissue.ask("response", **asked)
    table.loc[table["gene"] == "G7", "shrunken"] -= 500
    for genes, gene in ((None, "G7"), (("G5",), "G5")):
        figure = question("response", asked | {"genes": genes}).draw(tissue, table).figure
        assert any(f"change of {gene} [" in axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[0].get_title().split(":")[0].endswith("_none")


def test_out_of_support_there_is_no_number_anywhere(
    run: Path, tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in ("niche", "cell"):
        table = tissue.ask("response", intervention=["knockout:G3@50"], at=at, genes=["G3"])
        assert not table["supported"].any()
        assert table[["estimate", "treated", "lower", "upper"]].isna().all(axis=None)
        assert np.isfinite(table["untreated"]).sum() == (len(table) if at == "niche" else len(table) / 2)
    original = VirtualTissue.intervene
    monkeypatch.setattr(
        VirtualTissue, "intervene", lambda self, asked: original(self, asked.model_copy(update={"dose": 50.0}))
    )
    found = what_if_of(tissue)
    assert found is not None and not found["certain"] and found["share_supported"] == 0.0
    page = write_report(run).read_text()
    section = page[page.index('<section id="what-if"') :].split("</section>")[0]
    assert section.count("no prediction: too unlike") == tissue.niches().n_vars


def test_a_gene_named_twice_is_told_once(tissue: VirtualTissue) -> None:
    once, twice = (
        tissue.ask("response", intervention=ASKED, at="niche", genes=genes) for genes in (["G3"], ["G3", "G3"])
    )
    pd.testing.assert_frame_equal(once, twice)
    assert list(tissue.expression(["G3", "G5", "G3"], at="cell").var_names) == ["G3", "G5"]


@pytest.mark.parametrize(
    ("asked", "where", "said"),
    [
        ("knockout:G3@", None, "expected a number from 0, found no dose behind the '@'; leave out the '@' for 1"),
        ("knockout:G3@10uM", None, r"G3@10uM: expected a number from 0, found the dose '10uM'; doses of .* 'relative'"),
        ("knockout:G3@-1", None, "expected a number from 0, found the dose '-1'"),
        ("knockout:G3@1e400", None, "expected a number from 0, found the dose '1e400'"),
        ("knockout:G3@1+2", None, "expected a number from 0, found the dose '1.2'"),
        ("knockout:G3@nan", None, "expected a number from 0, found the dose 'nan'"),
        ("knockout:G3@much", None, "expected a number from 0, found the dose 'much'"),
        ("knockout:G3", "disc=", "where disc=: expected disc=SECTION:X,Y,RADIUS in µm, found no section; name one of"),
        ("knockout:G3", "disc=:1,2,3", "found no section; name one of a_done, a_none"),
        ("knockout:G3", "disc=a_non:1,2,3", "did you mean 'a_none'"),
        ("knockout:G3", "disc=a_none:1,2", "expected three numbers X,Y,RADIUS: disc=SECTION:X,Y,RADIUS .*found '1,2'"),
        ("knockout:G3", "disc=a_none:1,b,2", "expected three numbers"),
        ("knockout:G3", "disc=a_none:1,2,-5", "expected finite numbers and a radius above 0 µm, found '1,2,-5'"),
        ("knockout:G3", "disc=a_none:nan,2,5", "finite numbers"),
        ("knockout:G3", "disc=a_none:9000,2,5", r"found no cell of a_none inside; they lie at x \d+ to 29\d and y"),
    ],
)
def test_unclear_words_are_refused_clearly(tissue: VirtualTissue, asked: str, where: str | None, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        tissue.ask("response", intervention=[asked], where=where)


@pytest.mark.parametrize(
    ("hours", "read"), [("2d", 48), ("24 hours", 24), ("90min", 1.5), ("6", 6), (6, 6), (None, None)]
)
def test_durations_are_read_with_their_unit(hours: Any, read: float | None) -> None:
    assert question("response", {"intervention": ASKED, "hours": hours}).model_dump()["hours"] == read


@pytest.mark.parametrize("hours", ["soon", "10 uM", "2 fortnights"])
def test_what_is_no_duration_is_refused(hours: str) -> None:
    with pytest.raises(QueryError, match=r"query response · hours: expected .*found"):
        question("response", {"intervention": ASKED, "hours": hours})


def test_doses_are_brought_to_the_unit_of_training(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    sections = []
    for i, donor in enumerate("ab"):
        sections += [striped_section(f"{donor}_{what}", n=300, seed=i, donor=donor) for what in ("none", "done")]
        set_interventions(sections[-1], (Intervention(kind="drug", name="X", dose=2.0, unit="µM"),))
        sections[-1].tables["cell_rna"].X = sections[-1].tables["cell_rna"].X[:, ::-1].copy()
    tissue = train(build_graph(sections), CONFIG, tmp_path / "run").tissue

    def told(asked: str, **more: Any) -> pd.DataFrame:
        return tissue.ask("response", intervention=[asked], genes=["G3"], **more)

    in_training = told("drug:X@2")
    assert in_training["supported"].all()
    for asked in ("drug:X@2uM", "drug:X@2000 nM", "drug:X@0.002mM", "drug:X@2 μM"):
        pd.testing.assert_frame_equal(told(asked), in_training)
    pd.testing.assert_frame_equal(told("drug:X", dose="2000nM"), in_training)
    assert not told("drug:X@2mM")["supported"].any()
    with pytest.raises(QueryError, match=r"drug:X@2mg/kg: expected .*such as 10 µM, found the dose '2mg/kg'"):
        told("drug:X@2mg/kg")
