"""Another graph in the terms of the one a model was trained on: order, panel, depth, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch

from aivc_graph.errors import GraphError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.seen_as import seen_as
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.tissue.intervention import Intervention, set_interventions
from aivc_graph.tissue.section import add_cells, add_observation, new_section

BOTH = ("cell", "patch")
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 4}})
Maker = Callable[..., Any]


@pytest.fixture(scope="module")
def like(striped_section: Maker) -> TissueGraph:
    return build_graph([striped_section("s1", n=120, levels=BOTH, seed=1)], GRAPH)


def other(maker: Maker) -> Any:
    return maker("s2", n=100, levels=BOTH, seed=2, donor="d2")


def counts(graph: TissueGraph, level: str = "cell") -> np.ndarray:
    return to_scipy_csr(graph.counts(level, "rna")).toarray()


def test_further_genes_in_another_order_change_nothing(like: TissueGraph, striped_section: Maker) -> None:
    plain = build_graph([other(striped_section)], GRAPH)
    section = other(striped_section)
    for level in BOTH:
        table = section.tables[f"{level}_rna"]
        renamed = table[:, ::-1].copy()
        further = renamed[:, :2].copy()
        further.var_names = ["AAA", "ZZZ"]
        both = ad.concat([further, renamed], axis=1)
        both.obs, both.uns = table.obs, table.uns
        section.tables[f"{level}_rna"] = both
    wide = build_graph([section], GRAPH)
    assert list(wide.obs("gene").index[[0, -1]]) == ["AAA", "ZZZ"]
    before = counts(wide)
    found, expected = seen_as(wide, like), seen_as(plain, like)
    assert list(found.obs("gene").index) == list(like.obs("gene").index)
    for level in BOTH:
        np.testing.assert_array_equal(counts(found, level), counts(expected, level))
        for key in (f"{level}_rna_mean", f"{level}_rna_offset"):
            np.testing.assert_allclose(found["section"][key], expected["section"][key], atol=1e-6)
    np.testing.assert_array_equal(counts(wide), before)
    assert "AAA" in wide.obs("gene").index


def test_missing_genes_and_features_are_told_together(like: TissueGraph, striped_section: Maker) -> None:
    section = other(striped_section)
    section.tables["cell_rna"] = section.tables["cell_rna"][:, 17:].copy()
    section.tables["patch_histology"] = section.tables["patch_histology"][:, 1:].copy()
    with pytest.raises(GraphError) as caught:
        seen_as(build_graph([section], GRAPH), like)
    said = str(caught.value)
    assert "cell · rna" in said and "13 of the model's 30 molecules; missing: G0, G1, G10, G11, G12 and 12 more" in said
    assert "patch · histology" in said and "1 of the model's 5 features missing: f0" in said


def test_genes_named_as_those_of_another_species_are_told(striped_section: Maker) -> None:
    human, mouse = (striped_section(name, n=80, seed=1) for name in ("human", "mouse"))
    human.tables["cell_rna"].var_names = [f"COL{i}A1" for i in range(30)]
    mouse.tables["cell_rna"].var_names = [f"Col{i}a1" for i in range(30)]
    with pytest.raises(GraphError, match=r"another species \('Col0a1' for 'COL0A1'\): ask about"):
        seen_as(build_graph([mouse]), build_graph([human]))
    mouse.tables["cell_rna"].var_names = [f"Ada{i}" for i in range(30)]
    with pytest.raises(GraphError, match="measured alike"):
        seen_as(build_graph([mouse]), build_graph([human]))


def test_a_level_or_its_neighbours_missing_is_refused(like: TissueGraph, striped_section: Maker) -> None:
    spots = build_graph([striped_section("s2", n=100, levels=("patch",), seed=2)], GRAPH)
    with pytest.raises(GraphError, match="no cell nodes"):
        seen_as(spots, like)
    apart = build_graph([other(striped_section)], GraphConfig(edges={"cell": {"kind": "knn", "k": 6}}))
    with pytest.raises(GraphError, match="patch: expected edges between them, found no neighbours"):
        seen_as(apart, like)


def test_dissociated_cells_need_no_neighbours_and_no_spots(like: TissueGraph, striped_section: Maker) -> None:
    whole = other(striped_section)
    loose = new_section("loose", donor="d2")
    table = whole.tables["cell_rna"].copy()
    table.obs_names = table.obs["barcode"].astype(str)
    add_cells(loose, table.obs_names, whole.shapes["cell"][["label"]])
    add_observation(loose, "cell", "rna", table)
    found = seen_as(build_graph([loose], GRAPH), like)
    assert found.levels == like.levels and set(like.edge_types) <= set(found.edge_types)
    assert [int(found[level].num_nodes) for level in BOTH] == [100, 0]
    assert (
        found["cell", "near", "cell"].distance_um.numel() == found["cell", "near", "cell"].adj_t.values().numel() == 0
    )
    np.testing.assert_array_equal(counts(found).sum(axis=1), np.asarray(table.X.sum(axis=1)).ravel())


def test_depth_and_the_common_profile_are_those_of_training(like: TissueGraph, striped_section: Maker) -> None:
    section = other(striped_section)
    for level in BOTH:
        section.tables[f"{level}_rna"].X = section.tables[f"{level}_rna"].X * 3
    graph = build_graph([section], GRAPH)
    found = seen_as(graph, like)
    for level in BOTH:
        assert found[level]["rna_depth"] == like[level]["rna_depth"] < 0.5 * graph[level]["rna_depth"]
        torch.testing.assert_close(found[level]["rna_common"], like[level]["rna_common"])
        assert not torch.allclose(found["section"][f"{level}_rna_mean"], graph["section"][f"{level}_rna_mean"])


def test_what_was_not_measured_is_described_by_training(like: TissueGraph, striped_section: Maker) -> None:
    section = other(striped_section)
    for name in ("patch_rna", "patch_histology"):
        del section.tables[name]
    found = seen_as(build_graph([section], GRAPH), like)
    assert not found["patch"].rna_mask.any() and not found["patch"].histology_mask.any()
    assert counts(found, "patch").shape == (found["patch"].num_nodes, 30)
    for key in ("patch_rna_mean", "patch_histology_mean", "patch_histology_spread"):
        torch.testing.assert_close(found["section"][key], like["section"][key])
    assert not found["section"]["patch_rna_offset"].any()


def test_targets_of_interventions_keep_their_genes(like: TissueGraph, striped_section: Maker) -> None:
    section = other(striped_section)
    table = section.tables["cell_rna"]
    table.var_names = [*table.var_names[:-1], "A0"]  # before all others, and unknown to the run
    done = Intervention(kind="drug", name="x", targets={"G3": -1.0, "A0": 1.0, "G20": 0.5})
    set_interventions(section, [done])
    del section.tables["patch_rna"]
    trained = seen_as(like, like)
    trained["cell"]["rna_panel"] = like["cell"]["rna_panel"] & torch.from_numpy(like.obs("gene").index != "G29")
    found = seen_as(build_graph([section], GRAPH), trained)
    edges = to_scipy_csr(found["intervention", "targets", "gene"].adj_t).tocoo()
    genes = found.obs("gene").index[edges.row]
    signed = dict(zip(genes, edges.data * found["intervention", "targets", "gene"].sign.numpy(), strict=True))
    assert signed == {"G3": -1.0, "G20": 0.5}
