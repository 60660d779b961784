"""A run answers for tissue it never saw as it answers for the same tissue held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.pipeline.train import train
from aivc_graph.query.niche_file import niches_of_training
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.query.stripes import BOTH, CONFIG, GRAPH

Maker = Callable[..., Any]
ELSEWHERE = ("s3", "s4")
LACKING = [f"G{i}" for i in range(0, 30, 3)]


@pytest.fixture(scope="module")
def sections(striped_section: Maker) -> Callable[..., list[Any]]:
    def made(*numbers: int, split: str | None = None) -> list[Any]:
        found = [striped_section(f"s{i}", n=300, levels=BOTH, seed=i, donor=f"d{i}") for i in numbers]
        for section in found if split is not None else ():
            for level in BOTH:
                section.shapes[level]["split"] = split
        return found

    return made


@pytest.fixture(scope="module")
def held_out(sections: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on donors 1 and 2, in whose graph donors 3 and 4 lie as test tissue."""
    graph = build_graph([*sections(1, 2), *sections(3, 4, split="test")], GRAPH)
    return train(graph, CONFIG, tmp_path_factory.mktemp("travel") / "run").folder


@pytest.fixture(scope="module")
def elsewhere(sections: Callable[..., list[Any]]) -> TissueGraph:
    """Return a graph of donors 3 and 4 alone."""
    return build_graph(sections(3, 4, split="train"), GRAPH)


@pytest.fixture(scope="module")
def here(held_out: Path) -> VirtualTissue:
    return VirtualTissue.load(held_out)


@pytest.fixture(scope="module")
def there(here: VirtualTissue, elsewhere: TissueGraph) -> VirtualTissue:
    return here.on(elsewhere)


@pytest.mark.parametrize("level", ["cell", "patch", "region"])
def test_niches_are_those_of_the_same_tissue_held_out(here: VirtualTissue, there: VirtualTissue, level: str) -> None:
    known, asked = (tissue.niches(level=level) for tissue in (here, there))
    assert asked.uns["niche_colors"] == known.uns["niche_colors"]
    # A region is named after the side it is on.
    known = known[known.obs["section"].isin(ELSEWHERE)] if level == "region" else known[asked.obs_names]
    assert asked.shape == known.shape and asked.n_vars >= 3
    np.testing.assert_array_equal(asked.obsm["spatial"], known.obsm["spatial"])
    np.testing.assert_allclose(asked.X, known.X, atol=1e-5)
    assert (asked.obs["niche"].astype(str).to_numpy() == known.obs["niche"].astype(str).to_numpy()).all()
    assert asked.obs["supported"].all() or level == "region"
    assert asked.uns["niches"]["of"] == "the run"


def test_expression_and_composition_are_those_of_the_same_tissue_held_out(
    here: VirtualTissue, there: VirtualTissue
) -> None:
    for level in BOTH:
        known, asked = (tissue.expression(at=level) for tissue in (here, there))
        np.testing.assert_allclose(asked.X, known[asked.obs_names].X, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(asked.layers["measured"], known[asked.obs_names].layers["measured"])
    known, asked = (tissue.composition("patch") for tissue in (here, there))
    known = known[known["section"].isin(ELSEWHERE)].reset_index(drop=True)
    pd.testing.assert_frame_equal(asked, known, check_categorical=False, check_dtype=False, atol=1e-6)
    assert len(there.neighbours()) == len(here.neighbours()) and not there.markers().empty


def test_a_closed_form_is_the_same_without_the_tissue_held_out(
    sections: Callable[..., list[Any]], elsewhere: TissueGraph, tmp_path: Path
) -> None:
    """A run of donors 1 and 2 answers for donors 3 and 4 as does one in whose graph they were held out."""
    config = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"epochs": 0})})
    with_them = build_graph([*sections(3, split="test"), *sections(1, 2), *sections(4, split="test")], GRAPH)
    known = train(with_them, config, tmp_path / "with").tissue
    asked = train(build_graph(sections(1, 2), GRAPH), config, tmp_path / "without").tissue.on(elsewhere)
    same = asked.graph.obs("cell").index
    np.testing.assert_allclose(asked.niches().X, known.niches()[same].X, atol=1e-4)
    for level in BOTH:
        answer = asked.expression(at=level)
        np.testing.assert_allclose(answer.X, known.expression(at=level)[answer.obs_names].X, rtol=1e-4, atol=0.01)


def test_a_tissue_on_its_own_graph_is_itself(here: VirtualTissue) -> None:
    again = here.on(here.graph)
    np.testing.assert_array_equal(again.niches().X, here.niches().X)
    np.testing.assert_array_equal(again.expression(at="cell").X, here.expression(at="cell").X)


def test_thinner_sections_are_measured_against_the_depth_of_the_run(
    here: VirtualTissue, there: VirtualTissue, sections: Callable[..., list[Any]]
) -> None:
    thin = sections(3, 4, split="train")
    for section in thin:
        for table in (section.tables["cell_rna"], section.tables["patch_rna"]):
            table.X = table.X * 0.25  # the profile of every node stays as it was
    graph = build_graph(thin, GRAPH)
    assert graph["cell"]["rna_depth"] < 0.3 * here.graph["cell"]["rna_depth"]
    asked = here.on(graph)
    np.testing.assert_allclose(asked.states["cell"].own, there.states["cell"].own, atol=1e-4)
    assert (asked.niches().obs["niche"] == there.niches().obs["niche"]).mean() > 0.99
    assert graph["cell"]["rna_depth"] < 0.3 * here.graph["cell"]["rna_depth"]  # the graph given is as it was


def test_where_nothing_was_counted_answers_say_so(here: VirtualTissue, sections: Callable[..., list[Any]]) -> None:
    """Of one of two sections only the slide is there."""
    bare = sections(3, 4, split="train")
    del bare[1].tables["patch_rna"], bare[1].tables["cell_rna"]
    asked = here.on(build_graph(bare, GRAPH))
    counted = (asked.graph.obs("patch")["section"] == "s3").to_numpy()
    answer = asked.expression(at="patch")
    assert (answer.obs["supported"] == counted).all() and np.isfinite(answer.X).all()
    table = asked.composition("patch")
    assert (table["supported"].to_numpy() == counted).all()
    found = asked.similar_to(niche=1, n=5)
    assert found["supported"].dtype == bool and (found["section"] == "s3").all()


def test_a_slide_alone_is_answered_for_as_one_held_out_would_be(
    here: VirtualTissue, sections: Callable[..., list[Any]]
) -> None:
    slides = sections(3, split="train")
    del slides[0].tables["patch_rna"], slides[0].tables["cell_rna"]
    asked = here.on(build_graph(slides, GRAPH))
    unseen = {(v, "rna"): (here.graph.obs(v)["section"] == "s3").to_numpy() for v in BOTH}
    hidden = VirtualTissue(
        hide_observations(here.graph, unseen), here.model, here.diagnostics, niche_rule=here.niche_rule
    )
    answer = asked.expression(at="patch")
    np.testing.assert_allclose(answer.X, hidden.expression(at="patch")[answer.obs_names].X, rtol=1e-5)
    np.testing.assert_allclose(asked.niches().X, hidden.niches()[asked.niches().obs_names].X, atol=1e-5)
    assert not answer.obs["supported"].any() and not asked.niches().obs["supported"].any()


def test_similar_nodes_are_found_on_another_graph(here: VirtualTissue, there: VirtualTissue, held_out: Path) -> None:
    obs = here.niches().obs
    node = obs.index[(obs["section"] == "s1") & (obs["label"] == "stripe 1")][7]
    found = there.similar_to(node=node, of=here, n=20)
    assert set(found["section"]) == set(ELSEWHERE) and (found["label"] == "stripe 1").mean() > 0.8
    everywhere = here.similar_to(node=node, n=1000)
    np.testing.assert_allclose(found["distance"], everywhere.loc[found.index, "distance"], rtol=1e-4)
    alike = there.similar_to(niche=obs.loc[node, "niche"], of=here, n=20)
    assert (alike["label"] == "stripe 1").mean() > 0.8
    with pytest.raises(QueryError, match="tissue seen by another model"):
        there.similar_to(node=node, of=VirtualTissue.load(held_out))


def test_niches_asked_anew_are_those_of_the_tissue_asked(there: VirtualTissue) -> None:
    anew = there.niches(k=2)
    assert anew.n_vars == 2 and anew.uns["niches"]["of"] == "this tissue"
    assert there.niches(resolution=1.0).uns["niches"]["of"] == "this tissue"


def test_training_nodes_alone_fit_the_niches(here: VirtualTissue) -> None:
    """Held-out tissue of another kind, seen by the same model, moves no niche."""
    turned = here.on(here.graph)
    test = turned.graph.in_split("cell", "test").numpy()
    order = np.arange(len(test))
    order[test] = np.random.default_rng(0).permutation(order[test])
    counts = to_scipy_csr(turned.graph.counts("cell", "rna"))[order]
    turned.graph["gene", "observed_in", "cell"].adj_t = to_torch_csr(counts)
    rule = niches_of_training(here.model, turned.graph, here.diagnostics, here.seed)
    for name, value in vars(here.niche_rule.mixture).items():
        np.testing.assert_allclose(vars(rule.mixture)[name], value, atol=1e-6)
    assert not np.allclose(turned.states["cell"].z[test], here.states["cell"].z[test])


@pytest.fixture(scope="module")
def narrower(here: VirtualTissue, sections: Callable[..., list[Any]]) -> VirtualTissue:
    """Return donors 3 and 4 of whose cells a third of the genes was not measured."""
    given = sections(3, 4, split="train")
    for section in given:
        table = section.tables["cell_rna"]
        section.tables["cell_rna"] = table[:, ~table.var_names.isin(LACKING)].copy()
    return here.on(build_graph(given, GRAPH))


def test_another_panel_is_read_and_its_gaps_are_told(
    here: VirtualTissue, there: VirtualTissue, narrower: VirtualTissue
) -> None:
    whole, fewer = there.niches().obs["niche"], narrower.niches().obs["niche"]
    assert (whole.to_numpy() == fewer.to_numpy()).mean() > 0.9
    known, told = there.expression(at="cell"), narrower.expression(at="cell")
    lacking = told.var_names.isin(LACKING)
    np.testing.assert_array_equal(told.var["measured"], ~lacking)
    assert np.isnan(told.layers["measured"][:, lacking]).all()
    np.testing.assert_allclose(told.X.sum(axis=1), 1e4, rtol=1e-3)
    measured = known.layers["measured"][:, lacking]
    r, full = (
        np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(one.X[:, lacking].T, measured.T, strict=True)])
        for one in (told, known)
    )
    assert r > 0.5 * full > 0.1
    # What was measured is compared in the terms of the whole panel.
    ratio = np.nanmean(told.layers["measured"]) / np.nanmean(known.layers["measured"][:, ~lacking])
    assert ratio == pytest.approx(1, abs=0.05)


def test_fewer_genes_are_known_less_surely(there: VirtualTissue, narrower: VirtualTissue) -> None:
    part = there.model.count_operator("cell", "rna")
    whole, fewer = (t.model.prepare(t.graph).measured("cell", "rna") for t in (there, narrower))
    with torch.no_grad():
        assert (part.precision(fewer) < part.precision(whole)).all()
        assert torch.equal(part.precision(whole), part.log_precision.exp())
