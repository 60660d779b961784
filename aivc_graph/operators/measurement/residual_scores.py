"""How molecules of a node depart from what is expected of it together: scores of measured nodes, drawn whole."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri
from torch import Tensor, nn

Floats = NDArray[np.floating]
ALIKE = 200
MOST_NODES, MOST_VALUES = 2_000, 2_000_000
MOST_SCORE = 4.5


class ResidualScores(nn.Module):
    r"""Normal scores of counts around what was expected of their nodes while these were hidden, kept node by node.

    For counts y of a node of which the law F was expected, molecule by molecule,

    .. math:: s_g = \Phi^{-1}(u_g), \qquad u_g \sim \mathrm{U}(F_g(y_g - 1), F_g(y_g))

    A draw for another node takes the scores of one of the nodes most like it, all molecules at once, and returns the
    counts that have these scores under the law expected there. So molecules vary together as they did in nodes that
    were measured, and where the law is too wide or too narrow the scores make up for it.

    With the standard normal scores of the start molecules are drawn on their own from the law. Invariant to the order
    of nodes, and to moving and rotating the section.

    Parameters
    ----------
    n_molecules
        Size of the panel.
    latent
        Size of the place by which nodes are told to be alike.

    Shapes
    ------
    place
        (kept, latent)
    score
        (kept, molecule), in half precision

    References
    ----------
    Clark et al. 2004, doi:10.1175/1525-7541(2004)005<0243:TSSAMF>2.0.CO;2 (what was observed at once orders draws);
    Delle Monache et al. 2013, doi:10.1175/MWR-D-12-00281.1 (drawn from like cases);
    Dunn & Smyth 1996, doi:10.1080/10618600.1996.10474708 (randomised quantile residuals).
    """

    place: Tensor
    score: Tensor

    def __init__(self, n_molecules: int, latent: int) -> None:
        super().__init__()
        kept = int(np.clip(MOST_VALUES // max(n_molecules, 1), ALIKE, MOST_NODES))
        score = np.random.default_rng(0).standard_normal((kept, n_molecules), np.float32)
        self.register_buffer("place", torch.zeros(kept, latent))
        self.register_buffer("score", torch.from_numpy(score).half())

    def fit(self, place: Floats, score: Floats) -> None:
        """Keep scores (node, molecule) of nodes at `place` (node, latent): of many an even choice, few repeatedly."""
        rows = np.linspace(0, len(place) - 1, len(self.place)).round().astype(int)
        self.place.copy_(torch.from_numpy(place[rows]))
        self.score.copy_(torch.from_numpy(score[rows]))

    def draw(self, place: Floats, columns: NDArray[np.integer], draws: int, rng: np.random.Generator) -> Floats:
        """Return scores (node, draw, column), those of the 200 kept nodes nearest to `place`, each before any twice."""
        from scipy.spatial import cKDTree

        near = cKDTree(self.place.numpy()).query(place, k=ALIKE)[1]
        picked = rng.permuted(near, axis=1)[:, np.arange(draws) % ALIKE]
        return self.score.numpy()[:, columns].astype(np.float64)[picked]


def scores_of(counts: Floats, mean: Floats, dispersion: Floats, rng: np.random.Generator) -> Floats:
    """Return normal scores of `counts` under the negative binomial of `mean` and `dispersion`, all of one shape."""
    success = dispersion / (dispersion + np.maximum(mean, 1e-12))
    below = np.where(counts > 0, betainc(dispersion, np.maximum(counts, 1e-9), success), 0.0)
    up_to = betainc(dispersion, counts + 1, success)
    score: Floats = ndtri(below + (up_to - below) * rng.random(np.shape(counts)))
    return np.clip(score, -MOST_SCORE, MOST_SCORE)


def counts_of(score: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """Return the counts that have the `score` under the negative binomial of `mean` and `dispersion`."""
    from scipy.stats import nbinom

    success = dispersion / (dispersion + np.maximum(mean, 1e-12))
    return np.asarray(nbinom.ppf(ndtr(score), dispersion, success))
