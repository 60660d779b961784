"""How molecules of a node depart from what is expected of it together: scores of measured nodes, drawn whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri
from torch import Tensor, nn

from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]
ALIKE = 200
MOST_NODES, MOST_VALUES = 2_000, 2_000_000
MOST_SCORE = 4.5
# Up to so many counts chances are summed one by one, which takes a tenth of the time of inverting them.
SUMMED = 64


class ResidualScores(nn.Module):
    r"""Normal scores of counts around what was expected of their nodes while these were hidden, kept node by node.

    For counts y of a node of which the law F was expected, molecule by molecule,

    .. math:: s_g = \Phi^{-1}(u_g), \qquad u_g \sim \mathrm{U}(F_g(y_g - 1), F_g(y_g))

    A draw for another node takes the scores of one of the nodes most like it, all molecules at once, and returns the
    counts that have these scores under the law expected there. So molecules vary together as they did in nodes that
    were measured, and where the law is too wide or too narrow the scores make up for it.

    Before any are kept molecules are drawn on their own from the law. Invariant to the order of nodes, and to moving
    and rotating the section.

    Parameters
    ----------
    n_molecules
        Size of the panel.

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

    def __init__(self, n_molecules: int) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(0, 0))
        self.register_buffer("score", torch.zeros(0, n_molecules, dtype=torch.half))

    def kept(self, n: int) -> NDArray[np.int64]:
        """Return which of `n` nodes are kept, evenly, all where they are few."""
        most = int(np.clip(MOST_VALUES // max(self.score.shape[1], 1), ALIKE, MOST_NODES))
        return evenly(n, most)

    def fit(self, place: Floats, score: Floats) -> None:
        """Keep scores (node, molecule) of nodes at `place` (node, latent)."""
        self.place = torch.from_numpy(place).to(self.place)
        self.score = torch.from_numpy(score).to(self.score)

    def draw(self, place: Floats, columns: NDArray[np.integer], draws: int, rng: np.random.Generator) -> Floats:
        """Return scores (node, draw, column), those of the 200 kept nodes nearest to `place`, each before any twice."""
        from scipy.spatial import cKDTree

        if not len(self.place):
            return rng.standard_normal((len(place), draws, len(columns)))
        alike = np.arange(min(ALIKE, len(self.place)))
        near = cKDTree(self.place.numpy()).query(place, k=alike + 1)[1]
        picked = rng.permuted(near, axis=1)[:, np.arange(draws) % len(alike)]
        return self.score.numpy()[:, columns].astype(np.float64)[picked]

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        """Load as many nodes as were kept."""
        for name in ("place", "score"):
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


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

    mean = np.maximum(mean, 1e-12)
    failure, none = mean / (dispersion + mean), np.exp(-dispersion * np.log1p(mean / dispersion))
    wanted, *law = (part.ravel() for part in np.broadcast_arrays(ndtr(score), none, none, dispersion, failure))
    counts, left = np.zeros(len(wanted)), np.arange(len(wanted))
    for number in range(1, SUMMED + 1):
        beyond = wanted > law[0]
        left, wanted, (up_to, chance, size, failing) = left[beyond], wanted[beyond], [part[beyond] for part in law]
        chance = chance * failing * (size + number - 1) / number
        law, counts[left] = [up_to + chance, chance, size, failing], number
    beyond = wanted > law[0]
    counts[left[beyond]] = nbinom.ppf(wanted[beyond], law[2][beyond], 1 - law[3][beyond])
    return counts.reshape(np.shape(score))
