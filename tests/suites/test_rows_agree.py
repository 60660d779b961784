"""Whatever is asked, a row's estimate lies in the row's interval, its p says the same, and a name means one number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import Config
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.compare import compare
from aivc_graph.pipeline.evaluate import evaluate, score_table
from aivc_graph.pipeline.scores import board
from aivc_graph.pipeline.train import train
from aivc_graph.query.questions.question import QUESTIONS
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.page import number
from aivc_graph.report.write import write_report
from aivc_graph.tissue.intervention import knockout, set_interventions
from aivc_graph.tissue.section import metadata_of
from aivc_graph.training.settings import TrainingConfig

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
KNOCKOUT = {"intervention": ["knockout:G3"]}
WEIGHTS = "pathway,gene,weight\n" + "".join(f"{name},G{i},{1 + i % 3}\n" for name in "AB" for i in range(4, 12))
EXAMPLES: dict[str, tuple[dict[str, Any], ...]] = {
    "niches": ({}, {"level": "patch"}, {"level": "region"}, {"k": 2}, {"resolution": 2.0}),
    "expression": tuple({"at": at} for at in ("cell", "patch", "niche")),
    "composition": ({}, {"level": "patch"}, {"level": "region"}, {"by": "section"}),
    "types": ({}, {"level": "patch"}),
    "neighbours": ({}, {"k": 3}),
    "markers": ({"n": 0}, {"by": "label", "n": 0}, {"level": "patch", "n": 0}, {"genes": "G3,G20"}),
    "similar": ({"to_niche": 1, "n": 7}, {"to_node": "cell5", "section": "d0a"}),
    "abundance": ({"by": "batch"}, {"by": "age"}, {"by": "arm", "k": 3}, {"by": "batch", "among": "stripe 0,stripe 1"}),
    "response": (
        *({**KNOCKOUT, "at": at} for at in ("cell", "patch", "region", "niche")),
        *({**KNOCKOUT, "where": where} for where in ("niche=1", "section=d0a", "disc=d1a:80,80,30")),
        {**KNOCKOUT, "dose": 0, "hours": 1000},
        {**KNOCKOUT, "hours": 1000},
        {**KNOCKOUT, "readout": "pathways"},
    ),
}
# Asked of sections that share no modality, of which one has no positions, or that a reference tells of.
ELSEWHERE = {"transfer", "place", "type_expression"}
CASES = [(name, options) for name in sorted(set(QUESTIONS) - ELSEWHERE) for options in EXAMPLES.get(name, ({},))]
# What the interval of a question's table is of.
OF = {"response": "estimate", "expression": "expected", "markers": "log2_ratio", "abundance": "difference"}
# Questions whose intervals are of means over nodes that vary, by resampling: there is no p.
NO_P = {"expression"}


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of six donors, an untreated and a treated section each; the last section lacks three genes."""
    sections = []
    for donor in range(6):
        for arm in "ab":
            at = {"n": 160, "seed": donor, "levels": ("cell", "patch"), "donor": f"d{donor}"}
            section = striped_section(f"d{donor}{arm}", **at)
            metadata_of(section).update(batch="early" if donor % 2 else "late", age=str(30 + donor**2), arm=arm)
            if arm == "b":
                set_interventions(section, (knockout("G3"),))
                counts = section.tables["cell_rna"].X.tolil()
                counts[:, 3] = 0
                section.tables["cell_rna"].X = counts.tocsr()[:, [*range(12), 14, 12, 13, *range(15, 30)]]
            sections.append(section)
    sections[-1].tables["cell_rna"] = sections[-1].tables["cell_rna"][:, :27].copy()
    config = Config(model=ModelConfig(latent=4, rings=(6,)), training=TrainingConfig(epochs=1, device="cpu"))
    return train(build_graph(sections, EDGES), config, tmp_path_factory.mktemp("agree") / "run").folder


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


@pytest.fixture(scope="module")
def evaluation(run: Path, tissue: VirtualTissue) -> Evaluation:
    found = evaluate(run, tissue=tissue)
    write_report(run, tissue=tissue)
    return found


def table_of(answer: Any, of: str) -> pd.DataFrame:
    """Return an answer with an interval as a table, a row a value; of an AnnData what its layers say."""
    if not isinstance(answer, ad.AnnData):
        return answer
    layers = {name: np.ravel(answer.layers[name]) for name in ("lower", "upper") if name in answer.layers}
    return pd.DataFrame({of: np.ravel(answer.X)} | layers)


def check(table: pd.DataFrame, of: str, *, tested: bool) -> None:
    """Check that estimate, interval and p of each row are of one thing."""
    estimate, lower, upper = (table[name].to_numpy(float) for name in (of, "lower", "upper"))
    known = np.isfinite(lower)
    assert known.any() and (np.isfinite(upper) == known).all() and np.isfinite(estimate[known]).all()
    slack = 1e-5 * np.abs(estimate[known])  # answers a node are kept as float32
    assert (lower[known] <= estimate[known] + slack).all() and (estimate[known] <= upper[known] + slack).all()
    if not tested:
        assert "p" not in table
        return
    p, adjusted = table["p"].to_numpy(), table["p_adjusted"].to_numpy()
    assert (np.isfinite(p) == np.isfinite(adjusted)).all() and (p[np.isfinite(p)] <= adjusted[np.isfinite(p)]).all()
    sure = np.isfinite(p) & (np.abs(p - 0.05) > 1e-9)
    np.testing.assert_array_equal((p < 0.05)[sure], ((lower > 0) | (upper < 0))[sure])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_estimate_interval_and_p_of_a_row_are_of_one_thing(
    tissue: VirtualTissue, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    if options.get("readout") == "pathways":
        (tmp_path / "weights.csv").write_text(WEIGHTS)
        options = options | {"weights": tmp_path / "weights.csv"}
    answer = tissue.ask(name, **options)
    there = answer.layers if isinstance(answer, ad.AnnData) else answer
    assert ("lower" in there) == ("upper" in there)
    assert "lower" in there or name not in OF or options.get("at") == "patch"
    if "lower" in there:
        assert name in OF, f"say in OF what the interval of {name} is of"
        table = table_of(answer, OF[name])
        if options.get("hours") == 1000 and "dose" not in options:
            assert table[[OF[name], "lower", "p"]].isna().all(axis=None) and table["why"].str.contains("1000").all()
            return
        check(table, OF[name], tested=name not in NO_P)


def test_what_is_untreated_and_what_is_treated_differ_by_the_estimate(tissue: VirtualTissue) -> None:
    table = tissue.ask("response", **KNOCKOUT, at="cell", genes="G3,G5")
    known = table["estimate"].notna()
    np.testing.assert_allclose((table["treated"] - table["untreated"])[known], table["estimate"][known], atol=1e-6)
    assert (known == table["section"].str.endswith("a")).mean() > 0.95
    knocked = tissue.ask("response", **KNOCKOUT, genes="G3")
    assert (knocked["upper"] < 0).all() and (knocked["p_adjusted"] < 0.05).all() and knocked["shrunken"].lt(0).all()


def test_scores_lie_in_their_intervals(evaluation: Evaluation) -> None:
    axes = [one for one in evaluation.risk.values() if isinstance(one, dict) and "lower" in one and "value" in one]
    numbers = [(r.value, r.lower, r.upper) for r in evaluation.results]
    numbers += [(c.difference, c.lower, c.upper) for c in evaluation.comparisons]
    numbers += [(one["value"], one["lower"], one["upper"]) for one in axes]
    bounded = [one for one in numbers if one[1] is not None]
    assert len(bounded) > 20 and axes
    assert [one for one in bounded if not one[1] <= one[0] <= one[2]] == []


def test_one_name_is_one_number_in_evaluate_compare_and_page(run: Path, evaluation: Evaluation, tmp_path: Path) -> None:
    value = {(r.task, r.readout, r.metric): r.value for r in evaluation.results if r.kind == "model"}
    other = json.loads((run / "evaluation.json").read_text())
    for one in other["units"]:
        one["values"]["model"] = [None if v is None else v - 0.01 for v in one["values"]["model"]]
    (tmp_path / "other.json").write_text(json.dumps(other))
    compared = compare([run / "evaluation.json", tmp_path / "other.json"])
    key = ["task", "readout", "metric"]
    assert len(compared) and {tuple(one) for one in compared[key].to_numpy()} <= set(value)
    for row in compared.to_dict("records"):
        assert row["score_a"] == row["score_b"] == value[tuple(row[name] for name in key)]
        assert row["mean_a"] - row["mean_b"] == pytest.approx(row["difference"], abs=1e-5)
        assert row["difference"] == pytest.approx(0.01, abs=1e-4)
    printed = score_table(evaluation)
    assert len(printed) and all(row.model == value[row.task, row.readout, row.metric] for row in printed.itertuples())
    np.testing.assert_allclose(printed["model"] - printed["baseline"], printed["difference"], atol=2e-5)
    told = board(evaluation)
    assert all(row.model == value[row.task, row.readout, row.metric] for row in told.itertuples())


def test_the_page_tells_the_same_numbers(run: Path, tissue: VirtualTissue, evaluation: Evaluation) -> None:
    page = (run / "report.html").read_text()
    section = page[page.index('<section id="what-if"') :].split("</section>")[0]
    table = tissue.ask("response", **KNOCKOUT)
    gene = section.split("Shown is <i>")[1].split("</i>")[0]
    for row in table[table["gene"] == gene].itertuples():
        assert all(number(one) in section for one in (row.estimate, row.lower, row.upper))
        assert all(number(one) in section for one in (row.shrunken, row.shrunken_lower, row.shrunken_upper))
    assert "Adjusted p" in section and "of those that were untreated when measured" in section
    scores = [r for r in evaluation.results if r.kind == "model" and r.lower is not None]
    assert scores and all(number(r.value) in page and number(r.lower) in page for r in scores)
