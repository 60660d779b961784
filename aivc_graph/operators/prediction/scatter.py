"""How far rates lie from what is told of them: what counts of held-out nodes have beyond counting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Expected, Fold, Hidden, Inputs, State

# Of what nodes scatter, no molecule scatters less.
LEAST = 1e-3
# Where few places tell the scatter, it is taken at this end of what they leave open.
UPPER_END = 0.95


def scatter_of(told: Tensor, counts: Tensor, place: NDArray[np.integer]) -> Tensor:
    r"""Return the variance of rates about what was told, over its square, by molecule (molecule,).

    .. math:: \varphi_g = \frac{\sum_v w_{vg} \left((y_{vg} - m_{vg})^2 - m_{vg} (1 - m_{vg} / n_v)\right)}
              {\sum_v w_{vg}\,m_{vg}^2}, \qquad w = \frac{1}{(m + 0.1) (1 + m)}

    by moments, beyond what :math:`n_v` counts dealt by those rates differ by; w is about their precision. Each molecule
    is shrunk towards all, as far as its error is larger than what molecules differ by (Efron & Morris 1973,
    doi:10.1080/01621459.1973.10481350), and all grow by what k places leave open, :math:`1 + t_{k-1} s /
    \sqrt{k}` with s the relative spread over them, each alike, however few nodes it has. Infinite where fewer than two
    tell it.

    Parameters
    ----------
    told, counts
        What was expected and what was counted of each held-out node (node, molecule).
    place
        The region, or donor, each lies in (node,).
    """
    m, y = (one.double().cpu().numpy() for one in (told, counts))
    places, code = np.unique(place, return_inverse=True)
    if len(places) < 2:
        return torch.full((m.shape[1],), torch.inf)
    weight = 1 / ((m + 0.1) * (1 + m))
    by_chance = m * (1 - m / np.maximum(y.sum(axis=1, keepdims=True), 1.0))
    beyond, square = weight * ((y - m) ** 2 - by_chance), weight * m**2
    k, onehot = len(places), np.eye(len(places))[code].T
    of_place = np.stack([onehot @ beyond, onehot @ square])
    total = np.maximum(square.sum(axis=0), 1e-12)
    found, common = beyond.sum(axis=0) / total, max(beyond.sum() / total.sum(), LEAST)
    # Nodes of a place err together. What molecules weigh is well known, how far each errs is not: as all do.
    off = of_place[0] - found * of_place[1]
    error = float(np.mean((off**2).sum(axis=0) / total)) * k / (k - 1) / total
    apart = max(float(np.average((found - common) ** 2 - error, weights=total)), 0.0)
    found = common + apart / (apart + error) * (found - common)
    by_place = of_place[0].sum(axis=1) / np.maximum(of_place[1].sum(axis=1), 1e-12)
    left_open = 1 + stdtrit(k - 1, UPPER_END) * float(by_place.std(ddof=1)) / common / np.sqrt(k)
    return torch.from_numpy(np.maximum(found, LEAST) * left_open).float()


@dataclass(frozen=True)
class Judged:
    """Held-out nodes a part speaks of, counts hidden: `rows` of the window, their regions and counts of `columns`.

    And what is told without the part (`told`) of those it would speak of (`here`), with the state it is told from.
    """

    rows: Tensor
    place: Tensor
    counts: Tensor
    told: Expected
    here: Tensor
    state: State
    inputs: Inputs

    def shares(self, part: Any) -> Tensor:
        """Return what the part tells of their shares of the molecules it has columns of (node, molecule)."""
        columns = list(part.columns)
        told = part.tell(self.told, self.state, self.inputs, self.here).shares[self.rows][:, columns]
        # Not of their own sum: that a look tells means of logarithms, which lie below rates, is an error of it too.
        return told / self.told.shares[self.rows][:, columns].sum(dim=1, keepdim=True).clamp_min(1e-12)


def judge(part: Any, fitting: Fitting, fold: Fold) -> Judged:
    """Hide what a part tells of, of all nodes, and return those of a fold that it can be judged by."""
    (level, modality), inputs = part.target, fold.inputs
    data = inputs.measured(level, modality)
    state = fitting.model(inputs, Hidden(nodes={part.target: torch.ones_like(data.mask)}))
    told = fitting.model.expected(state, inputs, level, modality, without=part)
    here = part.speaks(state, inputs, fitted=False)
    rows = torch.nonzero(here & (fold.rows[level] * data.mask > 0)).ravel()
    counts = data.counts.to_dense()[rows][:, list(part.columns)]
    return Judged(rows, inputs.place[level][rows], counts, told, here, state, inputs)


def scatter_about(part: Any, judged: list[Judged]) -> Tensor:
    """Return how far the rates of nodes lie from what the part tells of them, as `scatter_of` does (molecule,)."""
    rates = torch.cat([one.counts.sum(dim=1, keepdim=True) * one.shares(part) for one in judged])
    place = torch.cat([one.place for one in judged]).cpu().numpy()
    return scatter_of(rates, torch.cat([one.counts for one in judged]), place)
