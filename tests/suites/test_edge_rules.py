"""What every edge rule keeps: order of nodes, rigid motion, duplicates, few nodes, the shape of the answer."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.errors import GraphError
from aivc_graph.graph.edges.rule import EDGES, edge_rule

RULES = {"knn": {"k": 6}, "radius": {"radius_um": 40.0}, "delaunay": {}, "grid": {}}


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1000, (n, 2))


@pytest.fixture(params=sorted(RULES))
def rule(request):
    return edge_rule(request.param, **RULES[request.param])


def same(a: sparse.csr_matrix, b: sparse.csr_matrix, atol: float = 0.0) -> None:
    np.testing.assert_array_equal(a.indptr, b.indptr)
    np.testing.assert_array_equal(a.indices, b.indices)
    np.testing.assert_allclose(a.data, b.data, atol=atol)


def test_every_rule_is_tried():
    assert set(RULES) == set(EDGES)


def test_answer_is_sorted_float32_distances_without_self_loops(rule):
    pos = points(700)
    edges = rule(pos)
    assert edges.dtype == np.float32 and edges.indices.dtype == np.int32 and edges.shape == (700, 700)
    rows = np.repeat(np.arange(700), np.diff(edges.indptr))
    assert edges.nnz > 500 and not (rows == edges.indices).any()
    assert (np.diff(rows * 700 + edges.indices) > 0).all()
    np.testing.assert_allclose(edges.data, np.linalg.norm(pos[rows] - pos[edges.indices], axis=1), rtol=1e-6)


def test_follows_a_permutation_of_the_nodes(rule):
    pos, shuffled = points(500), np.random.default_rng(1).permutation(500)
    expected = rule(pos)[shuffled][:, shuffled].tocsr()
    expected.sort_indices()
    same(rule(pos[shuffled]), expected)


def test_blind_to_moving_turning_and_mirroring(rule):
    pos = points(500)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
    same(rule(pos @ turn + [20_000.0, -300.0]), rule(pos), atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_nodes_connect_what_there_is(rule, n):
    pos = np.array([[0.0, 0.0], [30.0, 0.0], [15.0, 20.0]])[:n]
    assert rule(pos).nnz == n * (n - 1)


def test_duplicates_are_kept_apart_by_explicit_zeros(rule):
    pos = np.repeat(points(60), 3, axis=0)
    edges = rule(pos)
    assert edges.shape == (180, 180)
    zeros = np.flatnonzero(edges.data == 0)
    assert len(zeros) >= 180
    rows = np.repeat(np.arange(180), np.diff(edges.indptr))
    np.testing.assert_array_equal(rows[zeros] // 3, edges.indices[zeros] // 3)
    assert (np.diff(edges.indptr) > 0).all() and not (rows == edges.indices).any()


def test_all_nodes_in_one_place(rule):
    edges = rule(np.full((20, 2), 5.0))
    assert (edges.data == 0).all() and (np.diff(edges.indptr) > 0).all()


def test_nan_position_names_the_row(rule):
    pos = points(10)
    pos[7, 0] = np.nan
    with pytest.raises(GraphError, match=r"positions: expected finite µm, found 1 NaN or infinite, first rows \[7\]"):
        rule(pos)


def test_knn_is_exact_and_has_k_a_row_even_among_duplicates():
    pos = np.concatenate([points(400), np.full((30, 2), 500.0)])
    edges = edge_rule("knn", k=6)(pos)
    assert (np.diff(edges.indptr) == 6).all()
    expected = cKDTree(pos).query(pos, 7)[0][:, 1:]
    np.testing.assert_allclose(np.sort(edges.data.reshape(-1, 6), axis=1), expected, rtol=1e-6)


def test_knn_cut_by_max_um():
    pos = points(300)
    all_edges, cut = edge_rule("knn", k=6)(pos), edge_rule("knn", k=6, max_um=30.0)(pos)
    assert 0 < cut.nnz < all_edges.nnz and cut.data.max() <= 30.0
    assert cut.nnz == (all_edges.data <= 30.0).sum()


def test_radius_finds_all_pairs_and_keeps_the_isolated():
    pos = np.concatenate([points(300), [[9000.0, 9000.0]]])
    edges = edge_rule("radius", radius_um=50.0)(pos)
    apart = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    assert edges.nnz == (apart <= 50.0).sum() - len(pos)
    assert edges[300].nnz == 0 and edges.shape == (301, 301)


def test_radius_in_the_wrong_unit_is_refused_before_any_edge_is_made():
    millimetres = np.random.default_rng(0).uniform(0, 10, (200_000, 2))
    with pytest.raises(GraphError, match=r"radius: expected at most 100 .*about 199,999 .* in pixels or millimetres"):
        edge_rule("radius", radius_um=30.0)(millimetres)


def test_radius_within_its_budget_passes():
    pos = points(200)
    assert edge_rule("radius", radius_um=2000.0, max_degree=199)(pos).nnz == 200 * 199


def test_delaunay_of_a_square_with_centre():
    pos = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [5, 5]], dtype=float)
    edges = edge_rule("delaunay")(pos)
    assert edges.getnnz(axis=1).tolist() == [3, 3, 3, 3, 4]
    assert edge_rule("delaunay", max_um=8.0)(pos).getnnz(axis=1).tolist() == [1, 1, 1, 1, 4]


def test_delaunay_of_a_line_is_a_chain():
    along = np.random.default_rng(0).permutation(9)
    edges = edge_rule("delaunay")(along[:, None] * np.array([[3.0, 4.0]]))
    degree = edges.getnnz(axis=1)
    assert (degree[(along == 0) | (along == 8)] == 1).all() and degree.sum() == 16
    np.testing.assert_allclose(edges.data, 5.0, rtol=1e-6)


@pytest.mark.parametrize(("rings", "inner"), [(1, 6), (2, 18), (3, 36)])
def test_grid_hexagonal(rings, inner):
    column, row = np.meshgrid(np.arange(21), np.arange(21))
    pos = np.stack([(column + row % 2 / 2) * 100, row * 100 * np.sqrt(3) / 2], axis=-1).reshape(-1, 2)
    jitter = np.random.default_rng(0).normal(0, 1.0, pos.shape)
    assert edge_rule("grid", n_rings=rings)(pos + jitter).getnnz(axis=1)[10 * 21 + 10] == inner


def test_grid_square_walks_around_a_hole():
    pos = np.array([[x, y] for x in range(9) for y in range(9)], dtype=float) * 8
    keep = np.ones(81, bool)
    keep[4 * 9 + 5] = False
    edges = edge_rule("grid", n_rings=2)(pos[keep])
    centre = np.flatnonzero((pos[keep] == 32).all(axis=1))[0]
    assert edges[centre].nnz == 12 - 2


@pytest.mark.filterwarnings("ignore")  # squidpy's own use of its dependencies
@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("knn", {"k": 6}, {"n_neighs": 6}),
        ("radius", {"radius_um": 60.0}, {"radius": 60.0}),
        ("delaunay", {}, {"delaunay": True}),
    ],
)
def test_same_edges_as_squidpy(kind, ours, theirs):
    import squidpy as sq

    pos = points(400)
    peer = ad.AnnData(obsm={"spatial": pos})
    sq.gr.spatial_neighbors(peer, coord_type="generic", **theirs)
    expected = peer.obsp["spatial_distances"].tocsr()
    expected.sort_indices()
    same(edge_rule(kind, **ours)(pos), expected, atol=1e-3)
