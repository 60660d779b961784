"""Dissociated samples in a graph: near nobody, in windows and stores like others, beside tissue or alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph import names
from aivc_graph.errors import ConfigError, GraphError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.interventions import intervention_dose
from aivc_graph.graph.nodes import CHUNK, pieces
from aivc_graph.graph.schema import check_graph
from aivc_graph.graph.screens import settings_of
from aivc_graph.graph.store import open_store, read_store, write_store
from aivc_graph.graph.windows import window_cores, windows
from aivc_graph.io.graph_tables import level_table
from aivc_graph.io.writing import write
from aivc_graph.tissue.conditions import CONTROL, canonical, parts_of
from aivc_graph.tissue.section import add_cells, add_observation, metadata_of, new_section
from tests.dissociated import screen_table, screened
from tests.graph.tissues import same_graph


def lines(**columns: Any) -> list[Any]:
    table = screen_table()
    made = [screened(line, table[table.obs["line"] == line].copy(), **columns) for line in ("a", "b")]
    for section in made:
        metadata_of(section)["donor"] = f"of {metadata_of(section)['section']}"
    return made


def effects(name: str, values: Any) -> Any:
    section = new_section(name)
    cells = [f"c{i}" for i in range(len(values))]
    add_cells(section, cells)
    var = pd.DataFrame(index=[f"G{i}" for i in range(np.shape(values)[1])])
    add_observation(
        section, "cell", names.EFFECT, ad.AnnData(np.array(values, np.float32), pd.DataFrame(index=cells), var)
    )
    return section


def test_cells_belong_to_their_section_and_are_near_nobody() -> None:
    graph = build_graph(lines(dose="dose", hours="time"))
    assert graph.node_types == ["section", "cell", "gene", "intervention"] and graph.levels == ["cell"]
    assert torch.isnan(graph["cell"].pos).all() and torch.isnan(graph["cell"].size_um).all()
    assert (graph["cell", "within", "section"].adj_t.to_dense().sum(0) == 1).all()
    assert graph.obs("section")[["context", "donor"]].to_numpy().tolist() == [["a", "of a"], ["b", "of b"]]
    applied = graph["intervention", "applied_to", "cell"]
    keys = graph.obs("intervention").index
    dense = applied.adj_t.to_dense() > 0
    for row, said in enumerate(graph.obs("cell")["condition"]):
        assert tuple(keys[dense[row].numpy()]) == tuple(f"knockout:{part}" for part in parts_of(said))
        assert said == canonical(parts_of(said)) and (said == CONTROL) == (not dense[row].any())
    dose = intervention_dose(graph, "cell", "knockout:TP53")
    assert set(dose[graph.obs("cell")["condition"] == "KLF1+TP53"]) == {2.0} and set(applied.hours.tolist()) == {48.0}


def test_amounts_that_no_column_states_are_none_and_count_as_one() -> None:
    graph = build_graph(lines())
    applied = graph["intervention", "applied_to", "cell"]
    assert torch.isnan(applied.dose).all() and torch.isnan(applied.hours).all()
    assert set(applied.adj_t.values().tolist()) == {1.0}
    assert {(one.doses, one.hours) for one in settings_of(graph, "cell", "rna")[0]} == {((), ())}
    stated = {one for one in settings_of(build_graph(lines(dose="dose", hours="time")), "cell", "rna")[0] if one.parts}
    assert all(len(one.doses) == len(one.hours) == len(one.parts) for one in stated)


def test_beside_tissue_neither_changes_the_other(striped_section: Callable[..., Any]) -> None:
    tissue = [striped_section(name, levels=("cell", "patch"), seed=i) for i, name in enumerate("uv")]
    alone, both = build_graph(tissue), build_graph([tissue[0], *lines(), tissue[1]])
    n = alone["cell"].num_nodes
    placed = torch.isfinite(both["cell"].pos).all(dim=1)
    assert placed[:n].all() and not placed[n:].any()
    torch.testing.assert_close(both["cell"].pos[:n], alone["cell"].pos)
    for relation in (("cell", "near", "cell"), ("cell", "within", "patch"), ("patch", "within", "region")):
        a, b = alone[relation].adj_t.to_dense(), both[relation].adj_t.to_dense()
        assert torch.equal(a, b[: a.shape[0], : a.shape[1]]) and b.count_nonzero() == a.count_nonzero()
    assert both["region"].num_nodes == alone["region"].num_nodes
    loose = both["cell"].region_index[~placed]
    assert int(loose.min()) == both["region"].num_nodes
    assert (both["intervention", "applied_to", "section"].adj_t.values().numel()) == 0


@pytest.mark.parametrize("beside", [False, True])
def test_windows_and_stores_hold_each_cell_once(
    beside: bool, striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    tissue = [striped_section("u", levels=("cell", "patch"))] if beside else []
    graph = build_graph([*tissue, *lines()])
    graph["cell"].obs = graph.obs("cell").dropna(axis=1)  # text with gaps comes back as categories
    write_store(graph, tmp_path / "g.zarr")
    same_graph(read_store(tmp_path / "g.zarr"), graph)
    seen = np.concatenate(
        [w.rows["cell"][w.core["cell"]].numpy() for w in windows(open_store(tmp_path / "g.zarr"), [], 20)]
    )
    assert np.array_equal(np.sort(seen), np.arange(graph["cell"].num_nodes))


def test_pieces_stay_within_a_group_and_are_no_larger_than_a_window() -> None:
    group = np.array([3] * (CHUNK + 1) + [1] * 5)
    found = pieces(group)
    assert found[-5:].tolist() == [0] * 5 and np.bincount(found).tolist() == [5, CHUNK, 1]
    assert len(pieces(np.empty(0, np.int64))) == 0
    graph = build_graph(lines())
    assert [core["cell"] for core in window_cores(graph, 24)] == [slice(0, 24), slice(24, 48)]


def test_what_was_not_measured_stays_unmeasured_and_spoils_no_mean() -> None:
    graph = build_graph([effects("a", [[1, np.nan], [3, 5]]), effects("b", [[-1, np.nan], [0, np.nan]])])
    assert np.isnan(graph["cell"].effect.numpy()).tolist() == [
        [False, True],
        [False, False],
        [False, True],
        [False, True],
    ]
    assert graph["cell"].effect_names == ["G0", "G1"] and graph["cell"].effect_mask.all()
    np.testing.assert_allclose(graph["section"].cell_effect_mean, [[2, 5], [-0.5, 0]])
    hidden = hide_observations(graph, {("cell", names.EFFECT): np.array([True, False, False, False])})
    assert hidden["cell"].effect[0].tolist() == [0, 0] and torch.isnan(hidden["cell"].effect[2, 1])


def test_a_position_is_missing_or_there_as_its_section_says(striped_section: Callable[..., Any]) -> None:
    graph = build_graph(lines())
    graph["cell"].pos[0] = 1.0
    with pytest.raises(GraphError, match="positions of dissociated cells"):
        check_graph(graph)
    graph = build_graph([striped_section("u")])
    graph["cell"].pos[0] = torch.nan
    with pytest.raises(GraphError, match="positions that are NaN"):
        check_graph(graph)


def test_writers_of_places_refuse_what_has_none(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    graph = build_graph(lines())
    for ending, to in ((".geojson", "geojson"), ("", "spatialdata")):
        with pytest.raises(ConfigError, match="expected sections with positions, found dissociated sections alone"):
            write(graph, tmp_path / f"alone{ending}", to)
    assert "spatial" not in level_table(graph, "cell").obsm
    assert "nan" not in write(graph, tmp_path / "g.graphml", "graphml").read_text().lower()
    both = build_graph([striped_section("u"), *lines()])
    for to in ("geojson", "spatialdata"):
        write(both, tmp_path / to, to)
        assert [one.stem for one in (tmp_path / to).iterdir()] == ["u"]
