"""Interventions on the graph: nodes, targets, places, doses; through the store and through windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.errors import GraphError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.interventions import intervention_dose
from aivc_graph.graph.store import read_store, write_store
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.graph.windows import windows
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.intervention import Where, drug, knockout, set_interventions, treated
from tests.dissociated import screen_table, screened
from tests.graph.tissues import same_graph

DISC = Where(disc_um=(100, 100, 60))


@pytest.fixture
def sections(striped_section: Callable[..., Any]) -> list[Any]:
    made = [striped_section(name, levels=("cell", "patch"), seed=i) for i, name in enumerate(("u", "a", "b"))]
    set_interventions(made[1], (knockout("G3", dose=0.5, where=DISC), drug("X", targets={"G7": -0.4, "G9": 1.0})))
    set_interventions(made[2], (drug("X", targets={"G7": -0.4, "G9": 1.0}, dose=0.1, onset_hours=6, hours=48),))
    return made


def test_nothing_done_leaves_no_trace(striped_section: Callable[..., Any]) -> None:
    assert "intervention" not in build_graph([striped_section()]).node_types


def test_nodes_targets_and_doses(sections: list[Any]) -> None:
    graph = build_graph(sections)
    assert list(graph.obs("intervention").index) == ["drug:X", "knockout:G3"]
    targets = graph["intervention", "targets", "gene"]
    signed = to_scipy_csr(targets.adj_t).copy()
    signed.data = signed.data * targets.sign.numpy()
    genes = graph.obs("gene").index
    found = {(genes[g], k): w for g, k, w in zip(*signed.nonzero(), signed.data, strict=True)}
    assert found == {("G7", 0): pytest.approx(-0.4), ("G9", 0): 1.0, ("G3", 1): -1.0}
    for level in ("cell", "patch"):
        dose = intervention_dose(graph, level, "knockout:G3")
        inside = {
            f"a:{b}" for b in sections[1].shapes[level].index[treated(sections[1], knockout("G3", where=DISC))[level]]
        }
        assert set(graph.obs(level).index[dose == 0.5]) == inside and set(np.unique(dose)) <= {0.0, 0.5}
    applied = graph["intervention", "applied_to", "section"]
    np.testing.assert_allclose(applied.adj_t.to_dense(), [[0, 0], [1, 0.5], [0.1, 0]])
    assert applied.hours.tolist() == [24, 24, 48] and applied.onset_hours.tolist() == [0, 0, 6]


def test_store_and_windows_carry_them(sections: list[Any], tmp_path: Path) -> None:
    graph = build_graph(sections)
    write_store(graph, tmp_path / "g.zarr")
    same_graph(graph, read_store(tmp_path / "g.zarr"))
    dose = intervention_dose(graph, "cell", "drug:X")
    for window in windows(graph, [(("cell", "near", "cell"), False)], 200):
        np.testing.assert_array_equal(intervention_dose(window.graph, "cell", "drug:X"), dose[window.rows["cell"]])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (drug("X", targets={"G7": -0.4}, unit="uM"), "doses in 'uM' and 'relative'"),
        (drug("X", targets={"G8": -0.4}), "targets"),
    ],
)
def test_one_intervention_has_one_unit_and_one_set_of_targets(
    striped_section: Callable[..., Any], second: Any, said: str
) -> None:
    made = [striped_section("a"), striped_section("b", seed=1)]
    set_interventions(made[0], (second,))
    set_interventions(made[1], (drug("X", targets={"G7": -0.4}),))
    with pytest.raises(GraphError, match=said):
        build_graph(made)


def test_twice_to_one_node_is_refused(striped_section: Callable[..., Any]) -> None:
    section = striped_section()
    set_interventions(section, (knockout("G3"), knockout("G3", where=DISC)))
    with pytest.raises(GraphError, match="given twice to one node"):
        build_graph([section])


def test_a_target_without_a_gene_is_said(striped_section: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    section = striped_section()
    set_interventions(section, (knockout("ABSENT"),))
    graph = build_graph([section])
    assert "ABSENT" in caplog.text
    assert graph["intervention", "targets", "gene"].adj_t.values().numel() == 0


@pytest.mark.parametrize(("symbols", "doubted"), [(False, True), (True, False)])
def test_targets_that_no_gene_is_named_by_are_doubted(symbols: bool, doubted: bool) -> None:
    table = screen_table()
    if not symbols:
        table.var_names = [f"ENSG{i:011d}" for i in range(table.n_vars)]
    with doubts_heard() as doubts:
        build_graph([screened("s", table)])
    told = any("3 of 3 targets are not among the measured genes" in one and "`symbols:`" in one for one in doubts)
    assert told == doubted
