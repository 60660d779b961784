"""Lateral, lift and project: what they are at zero, and the symmetries they keep."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from aivc_graph.operators.lateral.ring_mean import ring_means
from aivc_graph.operators.lift.set_summary import SetSummaryLift
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.operators.project.broadcast import BroadcastProject
from aivc_graph.operators.rings import split_rings
from tests.operators.parts import lateral as lateral_of
from tests.operators.parts import pair

N, LATENT, RINGS = 60, 4, (3, 8)


def _neighbours(seed: int = 0) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    pos = np.random.default_rng(seed).random((N, 2)) * 100
    distance, index = cKDTree(pos).query(pos, k=9)
    order = np.argsort(index[:, 1:], axis=1)
    columns = np.take_along_axis(index[:, 1:], order, 1)
    lengths = np.take_along_axis(distance[:, 1:], order, 1)
    pointer = torch.arange(0, 8 * N + 1, 8)
    adj_t = torch.sparse_csr_tensor(
        pointer, torch.from_numpy(columns.ravel()), torch.ones(8 * N), size=(N, N), check_invariants=False
    )
    return index, adj_t, torch.from_numpy(lengths.ravel()).float()


def _rings() -> list[SparseOperator]:
    _, adj_t, distance = _neighbours()
    return [SparseOperator.of(part) for part in split_rings(adj_t, distance, RINGS)]


def test_rings_hold_neighbours_by_rank_of_distance() -> None:
    index, adj_t, distance = _neighbours()
    first, second = split_rings(adj_t, distance, RINGS)
    for row in range(N):
        assert set(torch.nonzero(first.to_dense()[row]).ravel().tolist()) == set(index[row, 1:4])
        assert set(torch.nonzero(second.to_dense()[row]).ravel().tolist()) == set(index[row, 4:9])


def test_rings_of_few_neighbours_end_early_and_equal_distances_keep_their_order() -> None:
    """Rows of 3, 0 and 4 edges; of the equal distances of the last row the first columns are nearest."""
    columns = torch.tensor([0, 1, 2, 0, 1, 2, 3])
    pointer, ones = torch.tensor([0, 3, 3, 7]), torch.ones(7)
    adj_t = torch.sparse_csr_tensor(pointer, columns, ones, size=(3, 4), check_invariants=True)
    parts = split_rings(adj_t, torch.tensor([5.0, 0.0, 1e-30, 2.0, 1.0, 1.0, 1.0]), (1, 3, 9))
    held = [part.to_dense().numpy() for part in parts]
    assert [[np.flatnonzero(row).tolist() for row in ring] for ring in held] == [
        [[1], [], [1]],
        [[0, 2], [], [2, 3]],
        [[], [], [0]],
    ]


def test_lateral_starts_as_the_node_itself_and_contains_the_neighbour_mean() -> None:
    torch.manual_seed(0)
    state, measured = torch.randn(N, LATENT), torch.ones(N)
    lateral = lateral_of(LATENT, len(RINGS))
    assert torch.equal(lateral(state, measured, _rings())[0], state)
    index, _, _ = _neighbours()
    with torch.no_grad():
        lateral.ring_weight.copy_(torch.tensor([[3 / 8], [5 / 8]]))
        lateral.share.fill_(8 / 9)
    expected = torch.stack([state[index[i, :9]].mean(0) for i in range(N)])
    assert torch.allclose(lateral(state, measured, _rings())[0], expected, atol=1e-5)


def test_a_node_without_a_state_takes_its_context_and_is_not_counted() -> None:
    torch.manual_seed(0)
    state, measured = torch.randn(N, LATENT), torch.ones(N)
    measured[7] = 0
    lateral = lateral_of(LATENT, len(RINGS))
    first, context, _ = lateral(state, measured, _rings())
    changed = state.clone()
    changed[7] += 100.0
    second, _, _ = lateral(changed, measured, _rings())
    assert torch.equal(first[7], context[7])
    assert torch.equal(first, second)


def test_neighbours_that_are_hardly_known_are_hardly_heard() -> None:
    torch.manual_seed(0)
    state, lateral = torch.randn(N, LATENT), lateral_of(LATENT, len(RINGS))
    with torch.no_grad():
        lateral.share.fill_(0.5)
    alike, _, _ = lateral(state, torch.full((N,), 0.1), _rings())
    certain, context, _ = lateral(state, torch.ones(N), _rings())
    assert torch.allclose(alike, certain, atol=1e-6)
    one = torch.full((N,), 0.02)
    one[3] = 1.0
    alone, _, _ = lateral(state, one, _rings())
    assert (alone[3] - state[3]).norm() < 0.1 * (context[3] - state[3]).norm()


def test_an_empty_ring_repeats_the_one_within() -> None:
    state, measured = torch.randn(N, LATENT), torch.ones(N)
    empty = torch.sparse_csr_tensor(
        torch.zeros(N + 1, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0),
        size=(N, N),
        check_invariants=False,
    )
    rings = [_rings()[0], SparseOperator(empty, empty)]
    (inner, outer), _ = ring_means(state, measured, rings)
    assert torch.equal(inner, outer)


def _overlap() -> tuple[torch.Tensor, SparseOperator]:
    torch.manual_seed(2)
    dense = torch.rand(5, N) * (torch.rand(5, N) > 0.7)
    dense[4] = 0
    return dense, SparseOperator.of(row_mean(dense.to_sparse_csr()))


def test_lift_starts_as_mean_pooling_and_does_not_mind_the_order_of_children() -> None:
    dense, overlap = _overlap()
    child, parent = torch.randn(N, LATENT), torch.randn(5, LATENT)
    lift = SetSummaryLift(pair(LATENT))
    measured, covered = torch.tensor([0.0, 1, 0, 0, 0]), torch.tensor([1.0, 1, 1, 1, 0])
    lifted = lift(child, parent, measured, overlap, covered)
    mean = dense @ child / dense.sum(1, keepdim=True).clamp_min(1e-9)
    assert torch.allclose(lifted[[0, 2, 3]], mean[[0, 2, 3]], atol=1e-5)
    assert torch.equal(lifted[[1, 4]], parent[[1, 4]])
    lift.share.fill_(0.25)  # what is known of a measured parent leaves its children a quarter of the say
    heard = lift(child, parent, measured, overlap, covered)
    assert torch.allclose(heard[1], 0.75 * parent[1] + 0.25 * mean[1], atol=1e-5)
    assert torch.equal(heard[[0, 2, 3, 4]], lifted[[0, 2, 3, 4]])
    with torch.no_grad():
        torch.nn.init.ones_(lift.correction.hidden[-1].weight)
    shuffle = torch.randperm(N)
    shuffled = SparseOperator.of(row_mean(dense[:, shuffle].to_sparse_csr()))
    assert torch.allclose(lift.pool(child, overlap), lift.pool(child[shuffle], shuffled), atol=1e-5)


def test_project_starts_silent_and_contains_broadcasting() -> None:
    dense, _ = _overlap()
    overlap = SparseOperator.of(row_mean(dense.T.to_sparse_csr()))
    child, parent = torch.randn(N, LATENT), torch.randn(5, LATENT)
    covered = (dense.sum(0) > 0).float()
    project = BroadcastProject(pair(LATENT))
    assert torch.equal(project(child, torch.ones(N), parent, overlap, covered), child)
    inside = covered > 0
    sent = project(child, torch.zeros(N), parent, overlap, covered)
    assert torch.allclose(sent[inside], (overlap @ parent)[inside], atol=1e-6)
    assert torch.equal(sent[~inside], torch.zeros_like(child[~inside]))


def test_project_leads_the_components_of_a_parent_to_those_of_its_children() -> None:
    dense, _ = _overlap()
    project, turn = BroadcastProject(pair(LATENT)), torch.linalg.qr(torch.randn(LATENT, LATENT))[0]
    project.map.copy_(turn)
    overlap, parent = SparseOperator.of(row_mean(dense.T.to_sparse_csr())), torch.randn(5, LATENT)
    inside = dense.sum(0) > 0
    sent = project.alone(parent, overlap)
    assert torch.allclose(sent[inside], (overlap @ parent @ turn)[inside], atol=1e-5)
    assert torch.allclose(project.alone(parent, overlap, lifted=True)[inside], (overlap @ parent)[inside], atol=1e-5)
