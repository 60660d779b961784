"""Covariance environments: how genes vary together among a node and its nearest."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground

# More nodes than genes, so that an environment is not noise in most of its directions. Haviv et al. take 8 nodes and 64
# genes of deep counts; of shallow ones a repeat of the measurement then lies farther off than the plain mean.
NEAREST, MOST_GENES = 18, 16


@READOUTS.register(
    "neighbourhood",
    reads=("environment",),
    needs=("peers", "centre"),
    metrics=("covet_distance",),
    formula="square root of Σ = 1/(k - 1) Σ_{j among the k nearest} (x_j - m)(x_j - m)ᵀ, x log expression, m the mean "
    "over training nodes; k = 18 asked nodes, the 16 genes that vary most in training; averaged over draws",
    reference="after Haviv et al. 2024, doi:10.1038/s41587-024-02193-4 (COVET)",
    weakness="predictions without the noise of a measurement are too smooth to reach zero, the more so the fewer "
    "counts",
)
def neighbourhood(values: Array, ground: Ground) -> Array:
    r"""Return the square root of the shifted covariance around each node looked at (row, gene, gene).

    .. math:: \Sigma_i = \tfrac{1}{k - 1} \sum_{j \in N_i} (x_j - \bar x)(x_j - \bar x)^\top

    over the nearest asked nodes, the node itself among them; :math:`\bar x` is the mean over training nodes, one for
    all, so that environments compare. Invariant to the order of nodes and to moving and rotating the section.
    """
    assert ground.peers is not None and ground.centre is not None
    return root_covariance(values[ground.peers] - ground.centre)


def root_covariance(shifted: Array) -> Array:
    """Return the square roots of the covariances of shifted values (…, node, gene) as (…, gene, gene).

    By way of the small matrix of products between nodes: a covariance of k nodes has at most k directions.
    """
    scaled = shifted / np.sqrt(max(shifted.shape[-2] - 1, 1))
    size, axes = np.linalg.eigh(scaled @ np.swapaxes(scaled, -1, -2))
    some = size > 1e-12 * np.maximum(size[..., -1:], 1e-300)
    weight = np.where(some, 1 / np.sqrt(np.where(some, size, 1.0)), 0.0)
    own = np.swapaxes(axes, -1, -2) @ scaled
    return np.swapaxes(own, -1, -2) @ (weight[..., None] * own)
