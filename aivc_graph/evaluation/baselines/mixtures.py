"""Domains by a Gaussian mixture: on each node's own state, and on the mean of its neighbours'."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.spatial import cKDTree

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.tissue.evenly import evenly

COMPONENTS = 15
STARTS = 3
MOST = 20_000


@BASELINES.register(
    "own_mixture", answers=("domains",), rule="a mixture on principal components of own expression", costly=True
)
def own_mixture(scene: Scene) -> Array | None:
    """Return the domain of each asked node by its own state (asked,)."""
    return mixture(states(scene), domains_in(scene))[scene.asked]


@BASELINES.register(
    "neighbour_mean_mixture", answers=("domains",), rule="the same on the mean of 18 neighbours", costly=True
)
def neighbour_mean_mixture(scene: Scene) -> Array | None:
    """Return the domain of each asked node by the mean state of its 18 nearest neighbours (asked,).

    A node without a position has its own.
    """
    own = states(scene)
    means, placed = own.copy(), np.isfinite(scene.pos_um).all(axis=1)
    for section in np.unique(scene.section[placed]):
        rows = np.flatnonzero((scene.section == section) & placed)
        near = cKDTree(scene.pos_um[rows]).query(scene.pos_um[rows], k=min(19, len(rows)))[1].reshape(len(rows), -1)
        means[rows] = own[rows][near[:, 1:] if near.shape[1] > 1 else near].mean(axis=1)
    return mixture(means, domains_in(scene))[scene.asked]


def states(scene: Scene) -> Array:
    """Return principal components of log expression (node, component), centred within each section."""
    x = np.asarray(scene.features, np.float64).copy()
    for section in np.unique(scene.section):
        rows = scene.section == section
        x[rows] -= x[rows].mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x)
    return x @ vectors[:, np.argsort(-values)[:COMPONENTS]]


def domains_in(scene: Scene) -> int:
    """Return the true number of domains among the asked nodes: it is told to everyone alike."""
    return len(np.unique(scene.target[scene.asked]))


def mixture(x: Array, k: int) -> Array:
    """Return components of a Gaussian mixture with one covariance (node,), best of three starts."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    sample = x[evenly(len(x), MOST)]
    found = GaussianMixture(k, covariance_type="tied", n_init=STARTS, random_state=0, max_iter=200)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return found.fit(sample).predict(x)
