"""Niches: planted ones are found and counted, none are found in noise, order and seed do not matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from aivc_graph.errors import QueryError
from aivc_graph.query.neighbourhoods import NeighbourhoodMixture, fit_neighbourhoods
from aivc_graph.query.niches import Surroundings, fit_niches
from aivc_graph.query.number_of_niches import information, number_of_niches

N, NEAR = 2000, 18


def find_niches(found_in: Surroundings, k: int | None, resolution: float, seed: int) -> NDArray[np.floating]:
    return fit_niches(found_in, k, resolution, seed)(found_in)


def bands(seed: int, niches: int, level: str = "cell") -> tuple[Surroundings, NDArray[np.int_]]:
    """Return nodes of six kinds in bands that differ in who lives there, half of it one kind, and the band of each."""
    rng = np.random.default_rng(seed)
    pos = rng.random((N, 2))
    band = (pos[:, 0] * niches).astype(int)
    chances = 0.5 * np.eye(6)[np.arange(niches) % 6] + 0.5 / 6 if niches > 1 else np.full((1, 6), 1 / 6)
    kind = (rng.random(N)[:, None] > chances[band].cumsum(axis=1)[:, :-1]).sum(axis=1)
    own = 6.0 * np.eye(6)[kind] + rng.normal(size=(N, 6))
    near = cKDTree(pos).query(pos, k=NEAR + 1)[1][:, 1:]
    adjacency = sparse.csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, NEAR)), shape=(N, N))
    every = np.ones(N, bool)
    donor = np.zeros(N, int)
    return Surroundings(
        level, "neighbourhood", own[near].mean(axis=1), own, every, every, every, adjacency, donor
    ), band


@pytest.mark.parametrize("level", ["cell", "patch"])
@pytest.mark.parametrize("niches", [2, 3, 5])
def test_planted_niches_are_found_and_counted(level: str, niches: int) -> None:
    found_in, band = bands(niches, niches, level)
    assert abs(find_niches(found_in, None, 1.0, 0).shape[1] - niches) <= (level == "patch")
    assert adjusted_rand_score(band, find_niches(found_in, niches, 1.0, 0).argmax(axis=1)) > 0.75


@pytest.mark.parametrize("level", ["cell", "patch"])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_one_niche_whatever_it_is_made_of(level: str, seed: int) -> None:
    found_in, _ = bands(seed, 1, level)
    assert find_niches(found_in, None, 1.0, seed).shape[1] == 1
    alone = dataclasses.replace(found_in, made_of="own", x=found_in.own)
    assert find_niches(alone, None, 1.0, seed).shape[1] == 1


def test_niches_recur_over_donors_that_have_ways_of_their_own() -> None:
    """Each donor falls into two along an axis of its own, unrelated to place; three niches are in all of them."""
    found_in, band = bands(0, 3, "patch")
    rng, donor = np.random.default_rng(1), np.random.default_rng(2).integers(0, 4, N)
    ways = np.zeros((N, 20))
    ways[np.arange(N), donor] = rng.choice([-1.0, 1.0], N)
    x = np.hstack([found_in.x, ways + 0.05 * rng.normal(size=ways.shape)])
    several = dataclasses.replace(found_in, x=x, own=np.hstack([found_in.own, np.zeros((N, 20))]), donor=donor)
    agreement = [
        adjusted_rand_score(band, find_niches(one, 3, 1.0, 0).argmax(axis=1))
        for one in (several, dataclasses.replace(several, donor=np.zeros(N, int)))
    ]
    assert agreement[0] > agreement[1] + 0.2 and agreement[0] > 0.6, agreement


def test_shuffled_places_are_one_niche() -> None:
    """The same nodes, thrown about: kinds are as many as before, and who lives together is chance."""
    found_in, _ = bands(0, 5)
    order = np.random.default_rng(0).permutation(N)
    assert find_niches(dataclasses.replace(found_in, own=found_in.own[order]), None, 1.0, 0).shape[1] == 1


def test_the_order_of_nodes_and_the_seed_do_not_matter() -> None:
    found_in, _ = bands(1, 3)
    first = find_niches(found_in, None, 1.0, 0).argmax(axis=1)
    order = np.random.default_rng(2).permutation(N)
    moved = dataclasses.replace(
        found_in, x=found_in.x[order], own=found_in.own[order], adjacency=found_in.adjacency[order][:, order]
    )
    again = np.empty(N, int)
    again[order] = find_niches(moved, None, 1.0, 0).argmax(axis=1)
    assert adjusted_rand_score(first, again) > 0.97
    assert adjusted_rand_score(first, find_niches(found_in, None, 1.0, 7).argmax(axis=1)) > 0.97
    np.testing.assert_array_equal(find_niches(found_in, 3, 1.0, 0), find_niches(found_in, 3, 1.0, 0))


def test_a_node_counts_beside_its_neighbours() -> None:
    mixture = NeighbourhoodMixture(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0.5, 0.5]))
    windows, own = np.array([[5.0, 5.0]] * 3), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    difference = np.diff(mixture.log_density(windows, own), axis=1).ravel()
    np.testing.assert_allclose(difference, [-np.log(9), np.log(9), 0.0], atol=1e-12)


def test_the_weights_are_shares_of_neighbourhoods() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(1500) < 0.3
    windows = rng.multinomial(NEAR, np.where(true[:, None], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])).astype(float)
    found = fit_neighbourhoods(windows, 0)[2]
    assert sorted(found.weight) == pytest.approx([true.mean(), 1 - true.mean()], abs=0.02)
    np.testing.assert_allclose(found.chances.sum(axis=1), 1.0)


def test_information_is_that_of_the_joint_table() -> None:
    joint = np.array([[300, 100], [50, 550]])
    niche, kind = (np.repeat(index.ravel(), joint.ravel()) for index in np.indices((2, 2)))
    p = joint / joint.sum()
    exact = (p * np.log(p / np.outer(p.sum(axis=1), p.sum(axis=0)))).sum()
    assert information(np.eye(2)[niche], np.eye(2)[kind]) == pytest.approx(exact, abs=2e-3)
    assert information(np.eye(2)[niche], np.zeros((1000, 2))) == 0.0


def test_more_resolution_never_gives_fewer_niches_and_few_nodes_give_one() -> None:
    found_in, _ = bands(3, 5)
    numbers = [find_niches(found_in, None, resolution, 0).shape[1] for resolution in (0.01, 0.3, 1.0, 10.0)]
    assert numbers == sorted(numbers) and numbers[0] == 1 and numbers[-1] >= 5
    rng = np.random.default_rng(0)
    kinds, niche = np.eye(4)[rng.integers(0, 4, 12)], rng.integers(0, 2, 12)
    assert number_of_niches((1, 2), lambda n: np.eye(n)[niche % n], kinds, 12, 1.0) == 1


def test_nodes_without_neighbours_or_measurement_are_answered() -> None:
    found_in, _ = bands(4, 2)
    blank = dataclasses.replace(
        found_in,
        measured=np.arange(N) > 100,
        known=np.arange(N) > 50,
        adjacency=sparse.csr_matrix(found_in.adjacency.multiply((np.arange(N) > 20)[:, None])),
    )
    shares = find_niches(blank, None, 1.0, 0)
    np.testing.assert_allclose(shares.sum(axis=1), np.arange(N) > 50, atol=1e-9)
    alone = dataclasses.replace(found_in, adjacency=sparse.csr_matrix((N, N)))
    assert find_niches(alone, None, 1.0, 0).shape[1] == find_niches(alone, 3, 1.0, 0).shape[1] == 1


def test_faulty_questions_are_refused() -> None:
    found_in, _ = bands(0, 2)
    for k in (0, N + 1):
        with pytest.raises(QueryError, match=f"found k = {k} for {N} nodes"):
            find_niches(found_in, k, 1.0, 0)
    with pytest.raises(QueryError, match="a number above 0"):
        find_niches(found_in, None, float("nan"), 0)


@pytest.mark.parametrize("level", ["cell", "patch"])
def test_niches_fitted_on_some_tissue_are_applied_to_other_tissue_unchanged(level: str) -> None:
    (here, _), (there, band) = bands(0, 3, level), bands(1, 3, level)
    rule = fit_niches(here, None, 1.0, 0)
    np.testing.assert_array_equal(rule(there.among(np.ones(N, bool))), rule(there))
    numbers = [
        np.bincount(rule(one).argmax(axis=1)[b == 0]).argmax() for one, b in ((here, bands(0, 3)[1]), (there, band))
    ]
    assert numbers[0] == numbers[1] and adjusted_rand_score(band, rule(there).argmax(axis=1)) > 0.75
    assert (np.diff(rule(here).sum(axis=0)) <= 0).all()


@pytest.mark.parametrize("level", ["cell", "patch"])
def test_nodes_that_are_left_out_have_no_say(level: str) -> None:
    """They lie in the same memory, have edges among themselves, and are of another kind of tissue altogether."""
    (here, _), (other, _) = bands(0, 3, level), bands(5, 5, level)
    both = dataclasses.replace(
        here,
        x=np.concatenate([here.x, 3 * other.x]),
        own=np.concatenate([here.own, 3 * other.own]),
        known=np.ones(2 * N, bool),
        measured=np.ones(2 * N, bool),
        counted=np.ones(2 * N, bool),
        adjacency=sparse.csr_matrix(sparse.block_diag([here.adjacency, other.adjacency])),
        donor=np.concatenate([here.donor, other.donor]),
    )
    alone, among = fit_niches(here, None, 1.0, 0), fit_niches(both.among(np.arange(2 * N) < N), None, 1.0, 0)
    np.testing.assert_allclose(alone(here), among(here), atol=1e-9)
    assert fit_niches(both, None, 1.0, 0)(here).shape != alone(here).shape
