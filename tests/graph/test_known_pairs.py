"""Pairs of known places in the graph: rows of its anchors, kept by the store and by whatever cuts a graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.anchors import AnchorConfig, anchor_table
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.fields import row_fields
from aivc_graph.graph.known_pairs import pair_count, pairs_of
from aivc_graph.graph.store import open_store, read_store, write_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import cut
from aivc_graph.query.questions.anchors import AnchorsQuestion
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.frame import positions_um
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.register import register
from tests.graph.tissues import same_graph

Maker = Callable[..., Any]


def sections_of(maker: Maker, *, known: int = 12, levels: tuple[str, ...] = ("cell", "patch")) -> list[Any]:
    """Return two sections; the cells of the second were placed by some of their positions, one of which is far off."""
    made = [maker(f"s{i}", n=200, seed=i, donor=f"d{i}", levels=levels) for i in range(2)]
    if known:
        at = positions_um(made[1], "cell")[:known]
        there = at + np.random.default_rng(0).normal(0, 3, at.shape)
        there[5] += 60.0
        method = registration_method("landmarks", points=np.hstack([at, there]).tolist(), share=0.9)
        register(made[1], "cell", levels[-1], method)
    return made


@pytest.fixture(scope="module")
def graph(striped_section: Maker) -> TissueGraph:
    return build_graph(sections_of(striped_section))


def asked(graph: TissueGraph, **options: Any) -> pd.DataFrame:
    tissue = cast(VirtualTissue, SimpleNamespace(graph=graph, slides={}))
    return AnchorsQuestion(**options).answer(tissue)


def test_pairs_are_rows_of_the_anchors_beside_those_of_overlap(graph: TissueGraph) -> None:
    table, pairs = anchor_table(graph), pairs_of(graph)
    known = table[table["kind"] == "landmark"].reset_index(drop=True)
    assert len(pairs) == len(known) == 12 and set(table["kind"]) == {"overlap", "landmark"}
    assert (known["fine"] + known["coarse"] == "cellpatch").all() and set(known["section"]) == {"s1"}
    assert known["fine_barcode"].tolist() == known["coarse_barcode"].tolist() == [str(i + 1) for i in range(12)]
    assert known["membership"].sum() == 11 and (known["split"] == "").all()
    far = np.hypot(known["fine_x_um"] - known["coarse_x_um"], known["fine_y_um"] - known["coarse_y_um"])
    np.testing.assert_allclose(known["residual_um"], far, atol=2e-3)
    assert known["fine_barcode"][known["doubtful"]].tolist() == ["6"]
    assert (known["sigma_um"] > 0).all() and table.loc[table["kind"] == "overlap", "residual_um"].isna().all()


def test_overlap_says_where_either_node_lies(graph: TissueGraph) -> None:
    table = anchor_table(graph)
    for row in table[table["kind"] == "overlap"].sample(10, random_state=0).itertuples():
        for end, level, code in (("fine", row.fine, row.fine_barcode), ("coarse", row.coarse, row.coarse_barcode)):
            at = graph.obs(level).index.get_loc(f"{row.section}:{code}")
            said = [getattr(row, f"{end}_{axis}_um") for axis in "xy"]
            np.testing.assert_allclose(said, graph[level].pos[at].numpy(), rtol=1e-6)


def test_a_graph_without_pairs_is_as_it_was(striped_section: Maker) -> None:
    bare = build_graph(sections_of(striped_section, known=0))
    assert names.PAIRS not in bare["section"] and not pair_count(bare)
    assert pairs_of(bare).empty and set(anchor_table(bare)["kind"]) == {"overlap"}
    with pytest.raises(QueryError, match=r"none that are asked for; there are: \d+ of kind overlap in s0, \d+ of kind"):
        asked(bare, kind="landmark")


def test_the_store_holds_pairs_and_one_without_is_read_as_ever(graph: TissueGraph, tmp_path: Any) -> None:
    write_store(graph, tmp_path / "with.zarr")
    again = read_store(tmp_path / "with.zarr")
    pd.testing.assert_frame_equal(pairs_of(again), pairs_of(graph))
    pd.testing.assert_frame_equal(anchor_table(again), anchor_table(graph), check_dtype=False)
    del again["section"][names.PAIRS]
    write_store(again, tmp_path / "without.zarr")
    old = open_store(tmp_path / "without.zarr").structure
    assert pairs_of(old).empty and list(pairs_of(old)) == list(pairs_of(graph).columns)


def test_unknown_errors_are_kept_as_unknown(striped_section: Maker) -> None:
    made = sections_of(striped_section, known=0)
    at = positions_um(made[0], "cell")[:2]
    register(made[0], "cell", "patch", registration_method("landmarks", points=np.hstack([at, at]).tolist()))
    graph = build_graph(made)
    json.dumps(graph["section"][names.PAIRS], allow_nan=False)
    assert pairs_of(graph)["sigma_um"].isna().all()  # two points measure no error


def test_pairs_say_nothing_to_windows_nor_to_a_model(graph: TissueGraph) -> None:
    rows = {level: np.arange(int(graph[level].num_nodes)) for level in graph.levels}
    assert len(pairs_of(cut(graph, {level: one[: len(one) // 2] for level, one in rows.items()}))) == 12
    assert names.PAIRS not in graph.obs("section") and names.PAIRS not in row_fields(graph, "section")


def test_thinning_anchors_of_overlap_leaves_pairs_and_the_other_way_round(striped_section: Maker) -> None:
    made = sections_of(striped_section)
    few = anchor_table(build_graph(made, GraphConfig(anchors=AnchorConfig(share=0.2))))
    all_of = anchor_table(build_graph(made))
    kinds = [table["kind"].value_counts() for table in (few, all_of)]
    assert kinds[0]["landmark"] == kinds[1]["landmark"] and kinds[0]["overlap"] < 0.5 * kinds[1]["overlap"]


def test_they_are_counted_by_what_was_placed_on_what(graph: TissueGraph) -> None:
    assert pair_count(graph) == {"cell+patch landmark": 12}


def test_a_section_with_pairs_alone_has_anchors_and_can_be_asked_for_them(striped_section: Maker) -> None:
    graph = build_graph(sections_of(striped_section, levels=("cell",)))
    table = asked(graph)
    assert set(table["kind"]) == {"landmark"} and set(table["coarse"]) == {"cell"}
    assert len(asked(graph, section="s1", kind="landmark")) == 12
    with pytest.raises(QueryError, match=r"none that are asked for; there are: 12 of kind landmark in s1"):
        asked(graph, section="s0")
    with pytest.raises(QueryError, match="no section named 's9'"):
        asked(graph, section="s9")
    ax = AnchorsQuestion().draw(cast(VirtualTissue, SimpleNamespace(graph=graph, slides={})), table)
    assert ax.get_title() == "s1: anchors"


def test_two_builds_of_one_section_are_the_same(striped_section: Maker) -> None:
    made = sections_of(striped_section)
    one, other = (build_graph(made) for _ in range(2))
    same_graph(one, other)
    pd.testing.assert_frame_equal(pairs_of(one), pairs_of(other))
