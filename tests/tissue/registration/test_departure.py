"""Known positions: the error between them is what it truly is, grows away from them, and bends only what bends."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.tissue.registration.departure import fit_departure

SIDE_UM = 6000.0
GRID = np.stack(np.meshgrid(np.arange(100, SIDE_UM, 400), np.arange(100, SIDE_UM, 400)), -1).reshape(-1, 2)


def waves(xy, rng, high_um):
    """Return a smooth shift ``(point, 2)`` of a few sine waves."""
    out = np.zeros_like(xy)
    for _ in range(4):
        way, length = rng.normal(size=2), rng.uniform(0.6, 1.5) * SIDE_UM
        phase = 2 * np.pi * (xy @ (way / np.linalg.norm(way))) / length + rng.uniform(0, 6.28)
        out += np.sin(phase)[:, None] * rng.normal(size=2) * high_um / np.sqrt(2)
    return out


def planted(seed, n, high_um, click_um):
    """Return known places, what is left there, and what is left on the grid, once a similarity is taken away."""
    rng = np.random.default_rng(seed)
    known = rng.uniform(0, SIDE_UM, (n, 2))
    shift = waves(np.vstack([known, GRID]), rng, high_um)
    seen = shift[:n] + rng.normal(0, click_um, (n, 2))
    x, y, one = known[:, 0], known[:, 1], np.ones(n)
    basis = np.vstack([np.column_stack([one, 0 * one, x, -y]), np.column_stack([0 * one, one, y, x])])
    a, b, c, d = np.linalg.lstsq(basis, seen.T.ravel(), rcond=None)[0]

    def trend(xy):
        return np.column_stack([a + c * xy[:, 0] - d * xy[:, 1], b + c * xy[:, 1] + d * xy[:, 0]])

    return known, seen - trend(known), shift[n:] - trend(GRID)


@pytest.mark.parametrize(("n", "high_um", "click_um"), [(6, 60, 5), (12, 0, 20), (12, 60, 20), (30, 60, 1)])
def test_the_stated_error_is_the_true_one(n, high_um, click_um):
    inside = []
    for seed in range(10):
        known, left, truth = planted(seed, n, high_um, click_um)
        told = fit_departure(known, left, affine=False)(GRID)
        ratio = np.sqrt(2 * (told**2).mean() / (truth**2).sum(axis=1).mean())
        inside.append(0.5 < ratio < 2)
    assert np.mean(inside) >= 0.7


def test_bending_comes_nearer_where_tissue_bends_and_nowhere_else():
    gains = {}
    for high_um, click_um in ((80, 1), (0, 20)):
        errors = []
        for seed in range(6):
            known, left, truth = planted(seed, 25, high_um, click_um)
            bent = fit_departure(known, left, affine=False, bent=True)
            errors.append([np.square(truth).sum(), np.square(truth - bent.shift_um(GRID)).sum()])
        gains[high_um] = np.divide(*np.sum(errors, axis=0)[::-1])
    assert gains[80] < 0.3 and gains[0] < 1.15


def test_the_error_grows_away_from_the_known_positions():
    rng = np.random.default_rng(3)
    known = rng.uniform(0, 2000, (15, 2))
    told = fit_departure(known, waves(known, rng, 40), affine=False, bent=True)
    sigma = told(np.array([known[0], known.mean(axis=0), [4000.0, 1000.0], [8000.0, 1000.0]]))
    assert sigma[0] < sigma[2] < sigma[3] and sigma[1] < sigma[2]


def test_more_positions_make_surer_and_what_is_bent_is_surer_than_what_is_not():
    sizes = {}
    for n in (5, 20, 80):
        known, left, _ = planted(1, n, 60, 5)
        sizes[n] = [np.median(fit_departure(known, left, affine=False, bent=bent)(GRID)) for bent in (False, True)]
    assert sizes[80][1] < sizes[20][1] < sizes[5][0]
    assert sizes[80][1] < 0.5 * sizes[80][0]


@pytest.mark.parametrize(("n", "affine"), [(2, False), (3, True), (1, False)])
def test_nothing_over_measures_nothing(n, affine):
    places = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]])[:n]
    assert fit_departure(places, np.zeros((n, 2)), affine=affine) is None


def test_exact_positions_leave_no_error():
    places = np.random.default_rng(0).uniform(0, 1000, (8, 2))
    assert fit_departure(places, np.zeros((8, 2)), affine=True)(places).max() < 1e-3


def test_nodes_of_a_coarse_map_are_off_by_themselves_too():
    known, left, _ = planted(2, 60, 0, 50)
    marked, coarse = (fit_departure(known, left, affine=False, coarse=one)(GRID).mean() for one in (False, True))
    assert marked < 25 and 40 < coarse < 60
