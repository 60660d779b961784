"""Relations and pooled counts of a window made ready: overlaps both ways, rings, and whose counts add up to whose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.operators.counts import log_shares
from aivc_graph.operators.expected_terms import MOST, amounts_of, terms_of
from aivc_graph.operators.intensities import prepare_intensities, training_spread
from aivc_graph.operators.lateral.ring_mean import _scaled_error
from aivc_graph.operators.part import Shape
from aivc_graph.operators.prediction.kernel_mean import ring_sums
from aivc_graph.operators.prediction.pooled import PooledPrediction
from aivc_graph.operators.prediction.shared_counts import Sayings, SharedCountsPlan
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.operators.relation.near import NearRelation, RelationPlan
from aivc_graph.operators.relation.within import WithinPlan, WithinRelation
from aivc_graph.operators.state import Expected, Inputs, State
from tests.operators.parts import neighbours

# Cells by the spot they lie in; the last lies in none, and the last spot is empty.
OVERLAP = np.array([[0.8, 0.5, 0, 0, 0], [0, 0.5, 1.0, 1.0, 0], [0, 0, 0, 0, 0]], np.float32)
CELLS = np.array([[3, 0, 1], [0, 2, 0], [1, 1, 1], [0, 0, 5], [9, 9, 9]], np.float32)
SPOTS = np.array([[5, 1, 1, 2], [2, 4, 6, 0], [1, 0, 0, 1]], np.float32)
GENES = ("A", "B", "C", "D", "E")
OF_CELLS, OF_SPOTS = (0, 1, 3), (1, 2, 3, 4)


def csr(dense: np.ndarray) -> torch.Tensor:
    return to_torch_csr(sparse.csr_matrix(dense.astype(np.float32)))


@pytest.fixture
def graph() -> TissueGraph:
    """Return five cells in three spots that count some of the same genes; the second section measured none of D."""
    graph = TissueGraph()
    graph["gene"].obs, graph["section"].num_nodes = pd.DataFrame(index=list(GENES)), 2
    graph["cell"].obs = pd.DataFrame({"label": ["a", "b", "a", "b", "a"]})
    for level, counts, genes in (("cell", CELLS, OF_CELLS), ("patch", SPOTS, OF_SPOTS)):
        wide = np.zeros((len(counts), len(GENES)), np.float32)
        wide[:, genes] = counts
        store, n = graph[level], len(counts)
        store.num_nodes, store.section_index = n, torch.tensor([0, 1] * n)[:n].sort().values
        store.split, store.rna_mask = torch.zeros(n, dtype=torch.int8), torch.ones(n, dtype=torch.bool)
        store.rna_panel = torch.isin(torch.arange(len(GENES)), torch.tensor(genes))
        store.rna_depth = {"cell": 10.0, "patch": 100.0}[level]
        graph["gene", "observed_in", level].adj_t = csr(wide)
    graph["cell", "within", "patch"].adj_t = csr(OVERLAP)
    return graph


def test_overlaps_sum_to_one_both_ways_or_to_nothing(graph: TissueGraph) -> None:
    found = WithinRelation(WithinPlan(child="cell", parent="patch")).prepare(graph, "cpu")
    up, down = found.up.forward_csr.to_dense(), found.down.forward_csr.to_dense()
    np.testing.assert_allclose(up.sum(dim=1), [1.0, 1.0, 0.0])
    np.testing.assert_allclose(down.sum(dim=1), [1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(up[1], [0, 0.2, 0.4, 0.4, 0])
    np.testing.assert_allclose(down[1], [0.5, 0.5, 0])
    assert WithinRelation.serves(graph, Shape(3, (4,), {})) == [WithinPlan(child="cell", parent="patch")]


def test_rings_of_a_window_are_ranks_of_distance(graph: TissueGraph) -> None:
    relation = graph["cell", "near", "cell"]
    relation.adj_t = csr(1 - np.eye(5))
    pos = np.array([0.0, 1.0, 3.0, 7.0, 15.0])
    apart = np.abs(pos[:, None] - pos)[~np.eye(5, dtype=bool)]
    relation.distance_um = torch.from_numpy(apart).float()
    plan = RelationPlan(relation=("cell", "near", "cell"), rings=(1, 3))
    first, second = (ring.forward_csr.to_dense() for ring in NearRelation(plan).prepare(graph, "cpu"))
    assert first.argmax(dim=1).tolist() == [1, 0, 1, 2, 3] and bool((first.sum(dim=1) == 1).all())
    assert torch.nonzero(second[0]).ravel().tolist() == [2, 3] and torch.nonzero(second[4]).ravel().tolist() == [1, 2]
    assert NearRelation.serves(graph, Shape(3, (1, 3), {})) == [plan]


def test_two_levels_are_told_by_the_molecules_they_share(graph: TissueGraph) -> None:
    (plan,) = SharedCountsPlan.of(graph, of_child=False)
    assert (plan.of_child, plan.of_parent, plan.depth) == ((1, 2), (0, 2), 100.0)
    assert not plan.types and not plan.near
    (plan,) = SharedCountsPlan.of(graph, of_child=True)
    assert (plan.depth, plan.types, plan.near) == (10.0, ("a", "b"), False)
    graph["cell"].rna_panel = torch.isin(torch.arange(len(GENES)), torch.tensor([0]))
    assert SharedCountsPlan.of(graph, of_child=False) == []


def test_pooled_counts_are_those_of_the_cells_by_their_overlap(graph: TissueGraph) -> None:
    (plan,) = SharedCountsPlan.of(graph, of_child=False)
    part = PooledPrediction(plan)
    found = part.prepare(graph, "cpu")
    np.testing.assert_allclose(found.pooled, (OVERLAP @ CELLS)[:, [1, 2]])
    assert found.covered.tolist() == [1.0, 1.0, 0.0]
    part.log_capture.copy_(torch.tensor([0.0, np.log(4.0)]))
    part.weight.fill_(0.1)
    part.go((0.5, 3.0))
    inputs = Inputs({}, {"patch": torch.zeros(3, dtype=torch.int64)}, {}, {}, {("prediction", *part.slot): found})
    said, nobody = torch.tensor([[0.3, 0.2, 0.1], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]]), torch.zeros(3, dtype=torch.bool)
    told = part.tell(Expected(said, said.log(), nobody, nobody), State(), inputs, found.covered > 0)
    counts = found.pooled / torch.tensor([1.0, 4.0])
    rate = 0.5 * (0.5 + said[:, [0, 2]] / said[:, [0, 2]].sum(dim=1, keepdim=True)) + 0.3 * counts
    rate = said[:, [0, 2]].sum(dim=1, keepdim=True) * rate / rate.sum(dim=1, keepdim=True)
    torch.testing.assert_close(told.shares[:2, [0, 2]], rate[:2])
    torch.testing.assert_close(told.shares[:, 1], said[:, 1])
    assert torch.equal(told.shares[2], said[2])


def test_a_section_whose_counts_contradict_what_is_said_goes_back_to_the_rule(graph: TissueGraph) -> None:
    (plan,) = SharedCountsPlan.of(graph, of_child=False)
    part = PooledPrediction(plan)
    part.profile.copy_(torch.tensor([0.5, 0.5]))
    part.weight.fill_(0.1)
    part.go((1.0, 0.3))
    counts = torch.tensor([[9.0, 1.0]] * 6 + [[1.0, 9.0]] * 5 + [[1.0, 9.0]] * 3)
    section = torch.tensor([0] * 6 + [1] * 5 + [2] * 3)
    sayings = Sayings.of(torch.tensor([[0.8, 0.2]]).repeat(14, 1), part.profile)
    inputs = Inputs({}, {"cell": torch.tensor([3]), "patch": section}, {}, {}, {})
    found = part.borne_out(sayings, counts, torch.ones(14, dtype=torch.bool), inputs)
    assert found.tolist() == [True, False, True, True]  # three nodes judge nothing, none neither
    asked = torch.arange(14) != 10
    assert part.borne_out(sayings, counts, asked, inputs).tolist() == [True, False, True, True]
    assert part.borne_out(sayings, counts, section == 0, inputs).all()
    said, weight = part.way_of(found[section][:, None])
    torch.testing.assert_close(said.ravel(), torch.where(section == 1, 0.0, 1.0))
    torch.testing.assert_close(weight.ravel(), torch.where(section == 1, 0.1, 0.03))
    part.go((0.0, 3.0))  # nothing of what is said: nothing to go back from
    assert torch.allclose(part.way_of(found[section][:, None])[1], torch.tensor(0.3))


def test_cells_of_which_a_gene_was_not_measured_do_not_sum_to_their_spot(graph: TissueGraph) -> None:
    measured = graph["cell"].rna_panel.expand(2, -1).clone()
    measured[0, 3] = False
    graph["section"]["cell_rna_measured"] = measured
    part = PooledPrediction(SharedCountsPlan.of(graph, of_child=False)[0])
    assert part.prepare(graph, "cpu").covered.tolist() == [0.0, 0.0, 0.0]
    measured[0, 3], measured[0, 0] = True, False  # of a gene that spots do not share
    assert part.prepare(graph, "cpu").covered.tolist() == [1.0, 1.0, 0.0]


def test_sums_of_rings_are_over_those_who_may_be_looked_at() -> None:
    torch.manual_seed(0)
    dense, values = (torch.rand(6, 6) > 0.5).float(), torch.randn(6, 3)
    visible = torch.tensor([1.0, 0, 1, 1, 0, 1])
    rings = [SparseOperator.of(one.to_sparse_csr()) for one in (dense, 1 - dense)]
    sums, numbers = ring_sums(values, visible, rings)
    torch.testing.assert_close(sums[0], (dense * visible) @ values)
    torch.testing.assert_close(sums[0] + sums[1], (visible @ values).expand(6, 3))
    torch.testing.assert_close(numbers[0] + numbers[1], torch.full((6,), 4.0))
    values[1] = 1e6  # of one who is hidden
    torch.testing.assert_close(ring_sums(values, visible, rings)[0][0], sums[0])


def test_the_mean_of_rings_is_weighed_and_is_nothing_without_neighbours() -> None:
    part = neighbours(2, 2)
    part.ring_weight.copy_(torch.tensor([2.0, 1.0]))
    sums = [torch.tensor([[4.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.0]])]
    mean, there = part.mean(sums, [torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])])
    torch.testing.assert_close(mean, torch.tensor([[11 / 5, 4 / 5], [0.0, 0.0]]))
    assert there.tolist() == [True, False]


def test_means_over_rows_of_whatever_weights() -> None:
    dense = torch.tensor([[2.0, 6.0], [0.0, 0.0]])
    torch.testing.assert_close(row_mean(dense.to_sparse_csr()).to_dense(), torch.tensor([[0.25, 0.75], [0.0, 0.0]]))


def test_the_error_of_the_best_multiple_does_not_mind_scale() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(50, 3))
    assert _scaled_error(0.1 * target, target) == pytest.approx(0.0, abs=1e-12)
    assert _scaled_error(np.zeros_like(target), target) == pytest.approx(1.0)
    noisy = target + rng.normal(size=target.shape)
    assert 0.2 < _scaled_error(noisy, target) < 0.8
    assert _scaled_error(noisy, target) == pytest.approx(_scaled_error(-30 * noisy, target))


def test_terms_and_amounts_are_each_others_inverse() -> None:
    torch.manual_seed(0)
    cofactor, amounts = (0.5, 3.0, 40.0), 200 * torch.rand(20, 3)
    torch.testing.assert_close(amounts_of(terms_of(amounts, cofactor), cofactor), amounts)
    torch.testing.assert_close(terms_of(amounts, 10.0), torch.log1p(10 * amounts))
    assert bool(torch.isfinite(amounts_of(torch.tensor([[-1e4, 0.0, 1e4]]), cofactor)).all())
    assert float(terms_of(amounts_of(torch.full((1, 1), MOST), (1.0,)), (1.0,))) == pytest.approx(MOST, rel=1e-3)


def test_log_shares_do_not_mind_how_much_was_counted() -> None:
    counts = torch.tensor([[1.0, 3.0], [10.0, 30.0], [0.0, 0.0]])
    found = log_shares(counts, 8.0)
    torch.testing.assert_close(found[0], torch.log1p(torch.tensor([2.0, 6.0])))
    torch.testing.assert_close(found[1], found[0])
    assert not found[2].any()


@pytest.fixture
def stained() -> TissueGraph:
    """Return cells of three sections with two markers; the last section is held out, one value was not measured."""
    graph, rng = TissueGraph(), np.random.default_rng(0)
    store = graph["cell"]
    store.intensity = torch.from_numpy(rng.gamma(2.0, 5.0, (30, 2))).float()
    store.intensity[3, 1], store.intensity[4, 0] = torch.nan, 0.0
    store.intensity_cofactor, store.num_nodes = torch.tensor([1.0, 5.0]), 30
    store.section_index, store.split = torch.arange(30) // 10, (torch.arange(30) >= 20).to(torch.int8) * 2
    store.intensity_mask = torch.arange(30) % 7 > 0
    graph["section"]["cell_intensity_mean"] = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    graph["section"]["cell_intensity_spread"] = torch.tensor([[1.0, 2.0], [3.0, 4.0], [50.0, 60.0]])
    return graph


def test_intensities_are_read_in_the_terms_of_their_section(stained: TissueGraph) -> None:
    found, raw = prepare_intensities(stained, "cell", "intensity", "cpu"), stained["cell"].intensity
    section = stained["cell"].section_index
    terms = torch.arcsinh(raw / torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(found.terms(found.observed), terms, equal_nan=True)
    row = (terms[13] - torch.tensor([2.0, 3.0])) / torch.tensor([3.0, 4.0])
    torch.testing.assert_close(found.observed[13], row)
    assert bool(torch.isnan(found.observed[3, 1])) and float(found.standard[3, 1]) == 0.0
    assert torch.nonzero(found.nothing).tolist() == [[4, 0]]
    torch.testing.assert_close(found.mask, stained["cell"].intensity_mask.float())
    assert torch.equal(found.section, section)


def test_the_spread_is_that_of_training_sections_or_of_all(stained: TissueGraph) -> None:
    torch.testing.assert_close(training_spread(stained, "cell", "intensity"), torch.tensor([2.0, 3.0]))
    stained["cell"].split = torch.full((30,), 2, dtype=torch.int8)
    torch.testing.assert_close(training_spread(stained, "cell", "intensity"), torch.tensor([18.0, 22.0]))
