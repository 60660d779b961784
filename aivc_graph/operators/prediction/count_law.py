"""How counts of hidden nodes scatter around what neighbours tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln

from aivc_graph.operators.measured import mean_there
from aivc_graph.operators.prediction.neighbour_fit import MOST_VALUES, Seen, joined, levelled
from aivc_graph.operators.residual_scores import scores_of
from aivc_graph.tissue.evenly import evenly

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.neighbours import NeighbourPrediction

DISPERSIONS = np.linspace(np.log(0.05), np.log(100.0), 16)
Floats = NDArray[np.floating]


def set_rate(readout: NeighbourPrediction, seen: list[Seen]) -> None:
    """Set the rate of each molecule by which a mean of logarithms says less than the logarithm of the mean."""
    logs = np.concatenate([levelled(readout, part).double().cpu().numpy() for part in seen])
    measured = np.concatenate([part.measured for part in seen]).astype(float)
    there = joined(seen)
    rate = mean_there(np.expm1(np.clip(logs, 1e-6, 20.0)), there)
    one = 1.0 / (len(measured) if there is None else np.maximum(there.sum(axis=0), 1))  # hardly seen, it keeps its rate
    log_rate = np.log((mean_there(np.expm1(measured), there) + one) / (rate + one))
    readout.log_rate.copy_(torch.from_numpy(log_rate).float())


def set_dispersion(readout: NeighbourPrediction, seen: list[Seen], known: Floats) -> None:
    """Set by maximum likelihood how far counts of hidden nodes scatter, from what is so of nodes that were seen."""
    loss = 0.5 * (DISPERSIONS[:, None] - known) ** 2
    for part in seen:
        rows = evenly(len(part.total), MOST_VALUES // 4 // len(known))
        _, mean, counts = _counts_of(readout, part, rows)
        loss += [_scatter_loss(np.exp(one), mean, counts) for one in DISPERSIONS]
    best = np.clip(loss.argmin(axis=0), 1, len(DISPERSIONS) - 2)
    low, middle, high = (np.take_along_axis(loss, best[None] + step, 0)[0] for step in (-1, 0, 1))
    # The lowest point of the parabola through the best of the grid and its neighbours.
    step = np.clip((low - high) / np.maximum(2 * (low - 2 * middle + high), 1e-12), -1.0, 1.0)
    found = DISPERSIONS[best] + step * (DISPERSIONS[1] - DISPERSIONS[0])
    readout.log_dispersion.copy_(torch.from_numpy(found).float())


def keep_residuals(readout: NeighbourPrediction, trained: Seen, loading: Floats) -> None:
    """Keep how counts of hidden training nodes depart from what is expected of them."""
    rows = readout.residuals.kept(len(trained.total))
    logs, mean, counts = _counts_of(readout, trained, rows)
    dispersion = readout.log_dispersion.double().exp().cpu().numpy()
    score = scores_of(counts, mean, dispersion, np.random.default_rng(1))
    readout.residuals.fit(logs @ loading, score)


def _counts_of(readout: NeighbourPrediction, part: Seen, rows: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return of some nodes seen the expected logarithm, the expected and the measured counts (node, molecule).

    Of what was not measured the logarithm said without neighbours, and no counts.
    """
    logs = levelled(readout, part, rows)
    total = part.total[rows].astype(float)[:, None]
    mean = readout.shares(logs).double().cpu().numpy() * total
    counts = np.rint(np.expm1(part.measured[rows].astype(float)) * total / readout.depth)
    told = logs.double().cpu().numpy()
    if part.there is None:
        return told, mean, counts
    there = part.there[rows]
    return np.where(there, told, part.said[rows]), mean * there, counts * there


def _scatter_loss(dispersion: float, mean: Floats, counts: Floats) -> Floats:
    """Return the negative log-likelihood of each molecule (molecule,), but for what does not depend on dispersion."""
    each = np.arange(counts.max(initial=0) + 1)
    by_count = each * np.log(dispersion) + gammaln(dispersion) - gammaln(dispersion + each)
    return np.asarray(((dispersion + counts) * np.log1p(mean / dispersion) + by_count[counts.astype(int)]).sum(axis=0))
