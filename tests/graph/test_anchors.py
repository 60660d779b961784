"""Anchors: listed, thinned, moved, and softened by the error of a registration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.anchors import AnchorConfig, anchor_table, anchors_told
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.within import overlap_with_discs
from aivc_graph.query.questions.anchors import AnchorsQuestion
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.section import metadata_of
from tests.graph.tissues import same_graph

WITHIN = ("cell", "within", "patch")
Maker = Callable[..., Any]


@pytest.fixture(scope="module")
def section(striped_section: Maker) -> Any:
    """Return cells and spots, a fifth of either on the test side."""
    made = striped_section("s1", n=600, levels=("cell", "patch"))
    for level in ("cell", "patch"):
        rows = made.shapes[level]
        rows.loc[rows["split"] == "validation", "split"] = "test"
    return made


def graph_with(section: Any, **anchors: Any) -> TissueGraph:
    return build_graph([section], GraphConfig(anchors=AnchorConfig(**anchors)))


def spots_of(graph: TissueGraph, split: str) -> set[str]:
    table = anchor_table(graph)
    return set(table["coarse_barcode"][table["split"] == split])


def test_every_edge_is_an_anchor_and_says_where_it_is(section: Any) -> None:
    graph = graph_with(section)
    table, within = anchor_table(graph), to_scipy_csr(graph[WITHIN].adj_t)
    assert len(table) == within.nnz and (table["sigma_um"] == 0).all()
    assert (table["fine"] + table["coarse"] == "cellpatch").all()
    cell, spot = (graph.obs(level).set_index("barcode") for level in ("cell", "patch"))
    for row in table.sample(20, random_state=0).itertuples():
        at = (spot.index.get_loc(row.coarse_barcode), cell.index.get_loc(row.fine_barcode))
        assert within[at] == np.float32(row.membership) and row.section == "s1"


def test_places_that_nothing_is_known_against_leave_the_graph_as_it_is(section: Any) -> None:
    plain = build_graph([section])
    same_graph(graph_with(section, share=1.0, shift_um=0.0, sigma_um=0.0, seed=3), plain)
    assert not anchors_told(plain)


def test_thinned_anchors_are_nested_and_spare_the_test_side(section: Any) -> None:
    shares = (0.05, 0.2, 0.5, 1.0)
    kept = [spots_of(graph_with(section, share=share), "train") for share in shares]
    for fewer, more in pairwise(kept):
        assert fewer < more
    whole = graph_with(section)
    n_spots = int(whole.in_split("patch", "train").sum())
    assert len(kept[1]) <= np.ceil(0.2 * n_spots) and len(kept[0]) >= 1
    assert spots_of(graph_with(section, share=0.05), "test") == spots_of(whole, "test")
    assert spots_of(graph_with(section, share=0.2, seed=1), "train") != kept[1]


def test_moved_cells_lie_where_cells_moved_by_hand_would(section: Any) -> None:
    graph, shift = graph_with(section, shift_um=40.0), 40.0
    within = to_scipy_csr(graph[WITHIN].adj_t).toarray()
    stores = graph["cell"], graph["patch"]
    pos, size = ([store[key].double().numpy() for store in stores] for key in ("pos", "size_um"))
    same = graph["patch"].split.numpy()[:, None] == graph["cell"].split.numpy()

    def moved(angle: float) -> np.ndarray:
        step = shift * np.array([np.cos(angle), np.sin(angle)])
        return overlap_with_discs(pos[0] + step, size[0], pos[1], size[1]).toarray() * same

    angles = np.linspace(0, 2 * np.pi, 721)
    errors = [np.abs(moved(angle) - within).sum() for angle in angles]
    assert min(errors) < 0.02 * within.sum() < np.median(errors)
    assert (graph["cell"].pos == graph_with(section)["cell"].pos).all()  # edges are moved, not cells


def test_membership_is_the_mean_over_where_a_cell_may_lie() -> None:
    rng = np.random.default_rng(0)
    spot, at = np.zeros((1, 2)), np.column_stack([np.linspace(0, 120, 13), np.zeros(13)])
    widths, diameter, sigma = np.full(13, 10.0), np.array([55.0]), 30.0
    soft = overlap_with_discs(at, widths, spot, diameter, 0.0, sigma).toarray()[0]
    drawn = np.repeat(at, 20_000, axis=0)
    drawn = drawn + sigma * rng.normal(size=drawn.shape)
    hard = overlap_with_discs(drawn, np.full(len(drawn), 10.0), spot, diameter).toarray()[0]
    np.testing.assert_allclose(soft, hard.reshape(13, -1).mean(axis=1), atol=0.01)


def test_a_small_error_leaves_memberships_and_a_large_one_spreads_them(section: Any) -> None:
    hard, little, much = (anchor_table(graph_with(section, sigma_um=s)) for s in (0.0, 0.5, 60.0))
    key = ["fine_barcode", "coarse_barcode"]
    both = hard.merge(little, on=key, suffixes=("", "_soft"))
    assert len(both) == len(hard)
    assert (both["membership"] - both["membership_soft"]).abs().max() < 0.15
    per_cell = [table.groupby("fine_barcode").size().mean() for table in (hard, much)]
    assert per_cell[1] > 2 * per_cell[0] and (much["sigma_um"] == 60).all()
    assert much["membership"].between(1e-3, 1).all() and much["membership"].max() < 0.5


def test_what_a_registration_left_over_is_the_error_of_its_anchors(section: Any) -> None:
    sections = graph_with(section).obs("section")
    left = sections.assign(residual_um_cell=30.0, residual_um_patch=40.0)
    assert np.isnan(AnchorConfig().sigmas(sections)) and AnchorConfig().sigmas(sections, 50.0) == 0.0
    assert AnchorConfig().sigmas(left) == pytest.approx(50 / np.sqrt(2))
    assert AnchorConfig(sigma_um=7.0).sigmas(left) == 7.0


def test_a_registered_section_softens_its_own_anchors_alone(striped_section: Maker) -> None:
    two = [striped_section(f"s{i}", n=200, seed=i, donor=f"d{i}", levels=("cell", "patch")) for i in range(2)]
    metadata_of(two[1])["residual_um_patch"] = 40.0
    table = anchor_table(build_graph(two))
    sigma = table.groupby("section", observed=True)["sigma_um"].unique()
    assert sigma["s0"] == [0.0] and sigma["s1"] == pytest.approx([40 / np.sqrt(2)])


def test_what_was_done_to_anchors_is_told(section: Any) -> None:
    with doubts_heard() as heard:
        graph = graph_with(section, share=0.2, shift_um=25.0, sigma_um=12.0)
    told = " ".join(anchors_told(graph))
    assert "20% keep the cells" in told and "moved 25 µm" in told and "12 µm along each axis" in told
    assert [one for one in heard if one.startswith("anchors: ")] == [f"anchors: {one}" for one in anchors_told(graph)]


def test_windows_that_measured_nothing_are_no_anchors(striped_section: Maker) -> None:
    graph = build_graph([striped_section("s1", n=200)], GraphConfig(anchors=AnchorConfig(share=0.2, sigma_um=30.0)))
    assert anchor_table(graph).empty and not anchors_told(graph)


def test_tissue_without_anchors_says_so(striped_section: Maker) -> None:
    graph = build_graph([striped_section("s1", n=200)])
    with pytest.raises(QueryError, match=r"none at the levels cell, patch, region.*such as cells and spots"):
        AnchorsQuestion().answer(cast(VirtualTissue, SimpleNamespace(graph=graph)))
