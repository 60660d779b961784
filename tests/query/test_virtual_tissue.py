"""Questions to a trained tissue: niches that are there are found, none are made up, and answers add up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.pipeline.ask import query
from aivc_graph.pipeline.train import train
from aivc_graph.query.answers import contact_table
from aivc_graph.query.drawing import drawn_once
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.caveats import caveats_of
from tests.query.stripes import BOTH, CONFIG, GRAPH


def agreement(answer: Any) -> float:
    return float(adjusted_rand_score(answer.obs["label"], answer.obs["niche"].astype(str)))


def test_niches_find_the_stripes(tissue: VirtualTissue) -> None:
    assert agreement(tissue.niches(k=3)) > 0.8
    found = tissue.niches()
    assert 3 <= found.n_vars <= 8 and agreement(found) > 0.6
    for section in ("s1", "s2"):
        assert agreement(tissue.niches(k=3)[tissue.niches(k=3).obs["section"] == section]) > 0.75


def test_a_tissue_says_what_it_holds_and_what_can_be_asked(tissue: VirtualTissue) -> None:
    said = repr(tissue).splitlines()
    assert said[0] == "VirtualTissue" and "  cell: 1,000" in said and "  section: 2" in said and "  donor: 2" in said
    assert f"  gene: {tissue.graph['gene'].num_nodes:,}" in said and said[-1].startswith("  ask('NAME'): abundance, ")


def test_shuffled_states_find_no_stripes(trained: Path) -> None:
    tissue = VirtualTissue.load(trained)
    states = dict(tissue.states)
    cells = states["cell"]
    order = np.random.default_rng(0).permutation(len(cells.z))
    states["cell"] = dataclasses.replace(cells, own=cells.own[order], context=cells.context[order])
    tissue.states = states
    assert agreement(tissue.niches(k=3)) < 0.1


def test_tissue_without_niches_has_one(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    even = build_graph([striped_section("even", n=500, structure=False, seed=3)], GRAPH)
    tissue = train(even, CONFIG, tmp_path / "run").tissue
    answer = tissue.niches()
    assert answer.n_vars == 1 and (answer.obs["niche"] == "1").all()
    assert tissue.markers().empty and len(tissue.neighbours()) == 1


@pytest.mark.parametrize(("child", "parent"), [("cell", "patch"), ("cell", "region")])
def test_shares_of_a_parent_are_the_overlap_weighted_mean_of_its_children(
    tissue: VirtualTissue, child: str, parent: str
) -> None:
    fine, coarse = tissue.niches(level=child), tissue.niches(level=parent)
    overlap = to_scipy_csr(tissue.graph[child, "within", parent].adj_t).astype(np.float64)
    total = np.asarray(overlap.sum(axis=1)).ravel()
    covered = total > 0
    # A patch without cells borrows nothing upwards: it weighs no more than the shares it has.
    weight = np.asarray(overlap @ fine.X.sum(axis=1))
    expected = (overlap @ fine.X)[covered] / np.maximum(weight[covered], 1e-12)[:, None]
    np.testing.assert_allclose(coarse.X[covered], expected, atol=2e-6)
    sums = coarse.X.sum(axis=1)
    assert ((np.abs(sums - 1) < 1e-5) | (sums == 0)).all() and (sums[covered] > 0).mean() > 0.9
    assert (coarse.obs["niche"].isna() == (sums < 0.5)).all()


def test_niches_are_numbered_by_size_and_carry_identity_and_microns(tissue: VirtualTissue) -> None:
    for level in ("cell", "patch", "region"):
        answer = tissue.niches(level=level)
        obs = answer.obs
        assert {"section", "barcode", "x_um", "y_um", "size_um", "niche", "certainty"} <= set(obs)
        assert obs.index.is_unique and (obs.index == obs["section"].astype(str) + ":" + obs["barcode"]).all()
        np.testing.assert_array_equal(answer.obsm["spatial"], obs[["x_um", "y_um"]].to_numpy())
        assert answer.uns["niches"]["units"] == "µm"
    training = tissue.graph.in_split("cell", "train").numpy()
    assert (np.diff(tissue.niches().X[training].sum(axis=0)) <= 1e-3).all()


def test_positions_are_those_of_the_section(tissue: VirtualTissue, striped_section: Callable[..., Any]) -> None:
    cells = striped_section("s2", n=500, levels=BOTH, seed=2).shapes["cell"]
    obs = tissue.niches().obs.query("section == 's2'").set_index("barcode").loc[cells.index]
    np.testing.assert_allclose(obs["x_um"], cells.geometry.x, atol=1e-3)
    np.testing.assert_allclose(obs["y_um"], cells.geometry.y, atol=1e-3)


def test_expression_a_node_is_per_ten_thousand_beside_what_was_measured(tissue: VirtualTissue) -> None:
    answer = tissue.expression(at="cell")
    assert answer.shape == (1000, 30)
    np.testing.assert_allclose(answer.X.sum(axis=1), 10_000, rtol=1e-4)
    np.testing.assert_allclose(np.nansum(answer.layers["measured"], axis=1), 10_000, rtol=1e-4)
    assert "per 10,000" in answer.uns["units"]["X"] and answer.uns["units"]["spatial"] == "µm"
    inside = answer.obs["label"] == "stripe 0"
    assert answer[inside, "G3"].X.mean() > 2 * answer[~inside, "G3"].X.mean()


def test_expression_a_niche_has_a_row_a_gene_with_an_interval_around_it(tissue: VirtualTissue) -> None:
    table = tissue.expression(["G0", "G15"], at="niche", k=3)
    assert len(table) == 6 and list(table["gene"][:2]) == ["G0", "G15"]
    assert (table["unit"] == "counts per 10,000").all() and (table["interval_over"] == "region").all()
    assert ((table["lower"] <= table["expected"]) & (table["expected"] <= table["upper"])).all()
    assert table.groupby("niche", observed=True)["n_nodes"].first().sum() == 1000
    np.testing.assert_allclose(table["expected"], table["measured"], rtol=0.35)


def test_markers_are_the_genes_of_the_stripe(tissue: VirtualTissue) -> None:
    label = tissue.niches(k=3).obs.groupby("niche", observed=True)["label"].agg(lambda v: v.mode()[0])
    for niche, genes in tissue.markers(n=5, k=3).groupby("niche", observed=True)["gene"]:
        stripe = int(label[niche].split()[-1])
        assert {int(g[1:]) // 10 for g in genes} == {stripe}


def test_unknown_gene_names_the_nearest(tissue: VirtualTissue) -> None:
    with pytest.raises(QueryError, match=r"no measured gene named 'G1O'; did you mean 'G1"):
        tissue.expression(["G1O"])


@pytest.mark.parametrize("level", ["region", "niche"])
def test_a_level_without_rna_says_where_there_is_some(
    striped_section: Callable[..., Any], tmp_path: Path, tissue: VirtualTissue, level: str
) -> None:
    if level == "niche":
        section = striped_section("s", n=200, levels=("patch",))
        del section.tables["patch_rna"]
        bare = train(build_graph([section], GRAPH), CONFIG, tmp_path / "run").tissue
        with pytest.raises(QueryError, match="expression at patch: no RNA was measured at any level"):
            bare.expression(at="niche")
    else:
        with pytest.raises(QueryError, match=r"region: expected one of cell, patch, found no RNA .*; ask at='cell'"):
            tissue.expression(at=level)


def test_similar_nodes_lie_in_the_own_stripe_on_both_sections(tissue: VirtualTissue) -> None:
    obs = tissue.niches().obs
    label = obs["label"]
    middle = obs[(obs["section"] == "s1") & (label == "stripe 1")]
    node = middle.index[(middle["x_um"] - middle["x_um"].median()).abs().argmin()]
    found = tissue.similar_to(node=node, n=30)
    assert node not in found.index and len(found) == 30 and found["distance"].is_monotonic_increasing
    assert (label[found.index] == "stripe 1").mean() > 0.9
    assert (found["section"] == "s2").sum() >= 5
    niche = str(tissue.niches(k=3).obs.loc[node, "niche"])
    alike = tissue.similar_to(niche=niche, k=3, n=30)
    assert (label[alike.index] == "stripe 1").mean() > 0.9 and set(alike["section"]) == {"s1", "s2"}
    assert {"section", "barcode", "x_um", "y_um", "distance"} <= set(alike)


def test_similar_to_what_does_not_exist(tissue: VirtualTissue) -> None:
    with pytest.raises(QueryError, match="no niche named '99'"):
        tissue.similar_to(niche=99)
    with pytest.raises(QueryError, match="no node named 's1:nobody'"):
        tissue.similar_to(node="s1:nobody")
    with pytest.raises(QueryError, match="exactly one"):
        tissue.similar_to()


def test_contacts_equal_a_hand_count() -> None:
    # 0 – 1 – 2 – 3 in a row, 4 without a niche beside 3; the edge of 0 and 1 is stated from one side only.
    rows, columns = [0, 1, 2, 2, 3, 3, 4], [1, 2, 1, 3, 2, 4, 3]
    adjacency = sparse.csr_matrix((np.ones(7), (rows, columns)), shape=(5, 5))
    table = contact_table(adjacency, np.array([0, 0, 1, 1, -1]), 2).set_index(["niche_a", "niche_b"])
    assert table["contacts"].to_dict() == {("1", "1"): 1, ("1", "2"): 1, ("2", "2"): 1}
    # three contacts, each niche has three ends of six: 3·3/6 between them, half of it inside each
    assert table["expected"].to_dict() == pytest.approx({("1", "1"): 0.75, ("1", "2"): 1.5, ("2", "2"): 0.75})
    assert table.loc[("1", "2"), "log2_ratio"] == pytest.approx(np.log2(1.5 / 2.0))


def test_contacts_of_the_tissue_equal_a_loop_over_pairs(tissue: VirtualTissue) -> None:
    niche = tissue.niches(k=3).obs["niche"].astype(str).to_numpy()
    adjacency = to_scipy_csr(tissue.graph["cell", "near", "cell"].adj_t).tocoo()
    pairs = {(min(i, j), max(i, j)) for i, j in zip(adjacency.row, adjacency.col, strict=True)}
    counted = pd.Series([tuple(sorted((niche[i], niche[j]))) for i, j in pairs]).value_counts()
    for row in tissue.neighbours(k=3).itertuples():
        assert row.contacts == counted.get((row.niche_a, row.niche_b), 0)
    graph = tissue.contact_graph(k=3)
    assert sum(n for _, n in graph.nodes(data="nodes")) == 1000
    assert sum(w for *_, w in graph.edges(data="weight")) == len(pairs)


def test_stripes_touch_their_neighbours_only(tissue: VirtualTissue) -> None:
    label = tissue.niches(k=3).obs.groupby("niche", observed=True)["label"].agg(lambda v: v.mode()[0])
    ends = sorted(n for n in label.index if label[n] != "stripe 1")
    ratio = tissue.neighbours(k=3).set_index(["niche_a", "niche_b"])["log2_ratio"]
    assert ratio[tuple(ends)] < -2 and ratio[("1", "1")] > 1


def test_a_section_of_zeros_beside_a_good_one_is_unknown(
    striped_section: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sections = [striped_section(name, n=n, seed=n, levels=BOTH) for name, n in (("good", 300), ("void", 100))]
    for table in (sections[1].tables["cell_rna"], sections[1].tables["patch_rna"]):
        table.X = table.X * 0
    del sections[1].tables["patch_histology"]
    graph = build_graph(sections, GRAPH)
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said == [
        f"void · {v} · rna: {n} of {n} without any count; they are taken as unmeasured"
        for v, n in (("cell", 100), ("patch", 12))
    ]
    tissue = train(graph, CONFIG, tmp_path / "run").tissue
    void = (graph.obs("cell")["section"] == "void").to_numpy()
    niches = tissue.niches(k=3).obs
    assert niches["niche"][void].isna().all() and niches["certainty"][void].isna().all()
    assert not niches["niche"][~void].isna().any() and agreement(tissue.niches(k=3)[~void]) > 0.6
    assert tissue.niches(k=3, level="region").obs.groupby("section", observed=True)["niche"].count()["void"] == 0
    expected = tissue.expression(["G0"], at="cell")
    assert np.isnan(expected.X[void]).all() and np.isfinite(expected.X[~void]).all()
    assert (niches["supported"] == ~void).all() and (expected.obs["supported"] == ~void).all()
    assert np.isfinite(tissue.expression(["G0"], at="niche", k=3)["expected"]).all()
    assert (tissue.similar_to(niche=1, k=3, n=400)["section"] == "good").all()
    with pytest.raises(QueryError, match="void:cell1, of which nothing is known"):
        tissue.similar_to(node="void:cell1")


def test_a_section_of_zeros_over_a_slide_is_flagged_wherever_it_is_answered(
    striped_section: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its spots have tiles, so that the slide says something of them; that is no ground as good as counts."""
    sections = [striped_section(name, n=800, seed=i, levels=("patch",)) for i, name in enumerate(("good", "void"))]
    sections[1].tables["patch_rna"].X = sections[1].tables["patch_rna"].X * 0
    run = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").folder
    tissue = VirtualTissue.load(run)
    for obs in (tissue.niches(k=3).obs, tissue.expression(["G0"], at="patch").obs):
        assert (obs["supported"] == (obs["section"] == "good")).all()
    caplog.clear()
    query(run, "niches", k=3)
    assert caplog.messages[-1] == (
        "nothing that this run learnt to read was measured in void: what is said of it, if anything, rests on its "
        "surroundings or slide alone (supported = False)"
    )
    assert [short for short, _ in caveats_of(tissue, simulated=False, evaluated=True) if "void" in short] == [
        "Nothing was counted in void."
    ]


def test_a_region_cut_by_a_split_is_drawn_once(tissue: VirtualTissue) -> None:
    """The split at 0.8 of the height goes through regions, which the graph then holds once for either side."""
    niches = tissue.niches(k=3, level="region")
    there = niches[niches.obs["section"] == "s1"]
    places = np.unique(there.obsm["spatial"], axis=0)
    assert len(places) < len(there)
    drawn = tissue.plot("s1", k=3, level="region").collections[0].get_offsets()
    np.testing.assert_array_equal(np.unique(np.asarray(drawn), axis=0), places)
    assert len(drawn) == len(places)


def test_the_larger_share_of_a_place_gives_its_colour() -> None:
    obs = pd.DataFrame({"niche": pd.Categorical(["1", "2", "2", None], categories=["1", "2"])}, index=list("abcd"))
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6], [0.0, 0.0]], np.float32)
    pos = np.array([[5.0, 5.0], [5.0, 5.0], [1.0, 1.0], [0.0, 0.0]])
    answer = ad.AnnData(shares, obs=obs, obsm={"spatial": pos})
    for n_base, niche in (([9, 1, 1, 1], "1"), ([1, 9, 1, 1], "2")):
        once = drawn_once(answer, np.array(n_base)).obs["niche"]
        assert once.isna().tolist() == [True, False, False] and once.iloc[1:].tolist() == ["2", niche]


def test_k_beyond_reason_and_unknown_levels_are_refused(tissue: VirtualTissue) -> None:
    with pytest.raises(QueryError, match="k = 0"):
        tissue.niches(k=0)
    for resolution in (0.0, -1.0, float("nan")):
        with pytest.raises(QueryError, match="expected a number above 0, found resolution"):
            tissue.niches(resolution=resolution)
    with pytest.raises(QueryError, match="both `k` and `resolution`, which say the same in two ways"):
        tissue.niches(k=3, resolution=2.0)
    with pytest.raises(QueryError, match="no column of cell nodes named 'sectoin'; did you mean 'section'"):
        tissue.composition(by="sectoin")
    with pytest.raises(QueryError, match="no column of patch nodes named 'donor'"):
        tissue.composition(level="patch", by="donor")
    with pytest.raises(QueryError, match="expected n ≥ 1, found n = -5"):
        tissue.similar_to(niche=1, n=-5)
    with pytest.raises(QueryError, match="did you mean 'patch'"):
        tissue.niches(level="pach")
    with pytest.raises(QueryError, match=r"no section named 's3' \(known: s1, s2\)$"):
        tissue.plot("s3")


def test_answers_are_the_same_each_time(trained: Path, tissue: VirtualTissue) -> None:
    again = VirtualTissue.load(trained)
    pd.testing.assert_frame_equal(again.niches().obs, tissue.niches().obs)
    assert json.loads((trained / "run.json").read_text())["graph"] == "graph.zarr"
