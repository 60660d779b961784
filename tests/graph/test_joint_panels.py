"""Sections of differing panels in one graph: which molecules there are, who measured them, what is common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.errors import GraphError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.panels import measured_molecules, panel
from aivc_graph.graph.profiles import _joint_profile, level_spread
from aivc_graph.graph.seen_as import seen_as
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.tissue.doubt import doubts_heard

Maker = Callable[..., Any]
PANELS = (range(22), range(8, 30), (*range(10), *range(20, 30)))
MEASURED = "cell_rna_measured"


def cut(section: Any, columns: Sequence[int]) -> Any:
    section.tables["cell_rna"] = section.tables["cell_rna"][:, list(columns)].copy()
    return section


def sections(maker: Maker, panels: Sequence[Sequence[int]] = PANELS, n: int = 80) -> list[Any]:
    return [cut(maker(f"s{i}", n=n, seed=i, donor=f"d{i}"), one) for i, one in enumerate(panels)]


def test_the_graph_has_all_molecules_and_says_who_measured_which(striped_section: Maker) -> None:
    graph, whole = build_graph(sections(striped_section)), build_graph(sections(striped_section, [range(30)] * 3))
    assert panel(graph, "cell", "rna") == panel(whole, "cell", "rna")
    measured = measured_molecules(graph, "cell", "rna").numpy()
    genes = [int(gene[1:]) for gene in panel(graph, "cell", "rna")]
    for row, own in zip(measured, PANELS, strict=True):
        assert {gene for gene, there in zip(genes, row, strict=True) if there} == set(own)
    there = measured[graph["cell"].section_index.numpy()]
    counts, truth = (to_scipy_csr(one.counts("cell", "rna")).toarray() for one in (graph, whole))
    np.testing.assert_array_equal(counts, np.where(there, truth, 0))
    assert not graph["section"].cell_rna_mean[~torch.from_numpy(measured)].any()
    assert not graph["section"].cell_rna_offset[~torch.from_numpy(measured)].any()


def test_shared_keeps_what_all_measured(striped_section: Maker) -> None:
    graph = build_graph(sections(striped_section), GraphConfig(genes="shared"))
    assert set(panel(graph, "cell", "rna")) == {"G8", "G9", "G20", "G21"}
    assert MEASURED not in graph["section"]


def test_equal_panels_are_the_same_either_way(striped_section: Maker) -> None:
    shuffled = [range(30), range(29, -1, -1)]
    graphs = [
        build_graph(sections(striped_section, shuffled), GraphConfig(genes=how, n_genes=20))
        for how in ("union", "shared")
    ]
    assert MEASURED not in graphs[0]["section"]
    assert panel(graphs[0], "cell", "rna") == panel(graphs[1], "cell", "rna")
    for key in ("cell_rna_mean", "cell_rna_offset"):
        assert torch.equal(*(graph["section"][key] for graph in graphs))
    assert torch.equal(*(graph["cell"].rna_common for graph in graphs))


def test_sections_without_a_bridge_are_refused_and_named(striped_section: Maker) -> None:
    apart = sections(striped_section, [range(10), range(20, 30), range(20, 28)])
    with pytest.raises(
        GraphError, match=r"no feature shared by sections s0 \| s1, s2 \('G0' against 'G20'\)"
    ) as caught:
        build_graph(apart)
    assert "add a section that measured features of both" in str(caught.value)
    bridged = build_graph([*apart, cut(striped_section("bridge", n=80), range(5, 25))])
    assert len(panel(bridged, "cell", "rna")) == 30


def test_a_small_overlap_is_doubted_by_name(striped_section: Maker) -> None:
    with doubts_heard() as doubts:
        build_graph(sections(striped_section, [range(20), range(10, 30), range(28, 30)]))
    assert doubts == []
    with doubts_heard() as doubts:
        build_graph(sections(striped_section, [range(14), range(10, 30)]))
    assert len(doubts) == 2 and "s0 · cell · rna: expected ≥ 50%, found 4 of 14 features shared with s1" in doubts[0]


def test_what_no_training_section_measured_is_left_out(striped_section: Maker) -> None:
    tested = sections(striped_section, [range(20), range(10, 30)])
    tested[1].shapes["cell"]["split"] = "test"
    graph = build_graph(tested)
    assert len(panel(graph, "cell", "rna")) == 20
    assert measured_molecules(graph, "cell", "rna").sum(dim=1).tolist() == [20, 10]


def test_the_most_variable_genes_are_those_that_vary_where_they_were_measured(striped_section: Maker) -> None:
    made = sections(striped_section, [range(20), range(10, 30)], n=300)
    for section, flat in zip(made, (range(5), range(25, 30)), strict=True):
        table = section.tables["cell_rna"]
        dense = table.X.toarray()
        dense[:, [list(table.var_names).index(f"G{i}") for i in flat]] = 2
        table.X = dense
    graph = build_graph(made, GraphConfig(n_genes=20))
    assert {int(gene[1:]) for gene in panel(graph, "cell", "rna")} == set(range(5, 25))


def test_genes_that_sections_share_are_kept_first_however_little_they_vary(striped_section: Maker) -> None:
    made = sections(striped_section, [range(20), range(10, 30)], n=300)
    for section in made:
        table = section.tables["cell_rna"]
        dense = table.X.toarray()
        dense[:, [list(table.var_names).index(f"G{i}") for i in range(10, 20)]] = 2
        table.X = dense
    kept = [panel(build_graph(made, GraphConfig(n_genes=n)), "cell", "rna") for n in (14, 4)]
    assert {int(gene[1:]) for gene in kept[0]} > set(range(10, 20)) and len(kept[0]) == 14
    assert {int(gene[1:]) for gene in kept[1]} < set(range(10, 20))


def test_the_common_profile_is_that_of_whole_panels() -> None:
    rng = np.random.default_rng(0)
    profile, measured = rng.dirichlet(np.ones(40)), rng.random((5, 40)) < 0.6
    measured[:, measured.sum(axis=0) == 0] = True
    everyone = np.ones(5, bool)
    found = _joint_profile(1e6 * profile * rng.uniform(1, 9, (5, 1)), measured, everyone, everyone)
    np.testing.assert_allclose(np.exp(found), profile, rtol=1e-5)


def test_depth_and_profile_of_parts_are_those_of_the_whole(striped_section: Maker) -> None:
    made = [
        [cut(striped_section(f"s{i}", n=400, seed=i, structure=False), own) for i, own in enumerate(panels)]
        for panels in (PANELS, [range(30)] * 3)
    ]
    parts, whole = (build_graph(one) for one in made)
    assert parts["cell"].rna_depth == pytest.approx(whole["cell"].rna_depth, rel=0.03)
    torch.testing.assert_close(parts["cell"].rna_common, whole["cell"].rna_common, atol=0.06, rtol=0)
    measured = measured_molecules(parts, "cell", "rna")
    away = (parts["section"].cell_rna_mean - whole["section"].cell_rna_mean)[measured]
    assert away.abs().max() < 0.05  # 0.4 if counts were scaled as if they were all


def test_tissue_is_asked_panel_by_panel(striped_section: Maker) -> None:
    like = build_graph(sections(striped_section))
    asked = sections(striped_section, [range(20), range(4, 30)])
    with doubts_heard() as doubts:
        found = seen_as(build_graph(asked), like)
    assert found["section"][MEASURED].sum(dim=1).tolist() == [20, 26]
    assert {one.split(":")[0] for one in doubts} == {"s0 · cell · rna", "s1 · cell · rna"}
    assert torch.isfinite(found["section"].cell_rna_offset).all()


def test_levels_of_molecules_spread_as_sections_do(striped_section: Maker) -> None:
    made = sections(striped_section, [range(30)] * 4, n=300)
    for section, factor in zip(made, (1, 4, 1, 4), strict=True):
        dense = section.tables["cell_rna"].X.toarray()
        dense[:, 0] *= factor
        section.tables["cell_rna"].X = dense
    spread = level_spread(build_graph(made), "cell", "rna")
    assert spread[0] > 2 * np.median(spread) and np.isfinite(spread).all()
    assert np.isnan(level_spread(build_graph(made[:1]), "cell", "rna")).all()
