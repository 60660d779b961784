"""What the model expects to be measured, in the terms in which measurements are compared: log of scaled counts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import nbinom

from aivc_graph import names
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.plan import panel_columns
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.states import run_windows

Floats = NDArray[np.floating]
GRID = np.concatenate([[0.0], np.geomspace(1e-3, 200.0, 60)])
MOST_COUNTS = 2000
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


def expected_log_expression(model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_]) -> Floats:
    """Return the expected log1p of counts scaled to the level's depth, for the nodes in `rows` (asked, molecule).

    A direct look at a node (its tile, the cells beneath, its neighbours) speaks of log counts already; what the state
    says is a rate, whose log is larger than the mean log of counts around it: there the negative binomial is averaged
    over, at the depths at which the nodes of the same section were counted.
    """
    operator = model.count_operator(level, names.RNA)
    depth = float(operator.target_depth)
    shares, out, looked_at = _expected(model, graph, level, rows)
    dispersion = operator.log_dispersion.detach().exp().numpy()
    section = graph[level].section_index.numpy()
    total = np.asarray(to_scipy_csr(graph.counts(level, names.RNA)).sum(axis=1)).ravel()
    for one in np.unique(section[rows][~looked_at]):
        here, counted = (section[rows] == one) & ~looked_at, total[(section == one) & (total > 0)]
        depths = np.quantile(counted, DEPTHS) if len(counted) else np.array([depth])
        out[here] = np.mean([mean_log1p(shares[here] * n, dispersion, depth / n) for n in depths], axis=0)
    return out


def expected_shares(model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_]) -> Floats:
    """Return the share of each molecule in what is expected of the nodes in `rows` (asked, molecule)."""
    return _expected(model, graph, level, rows)[0]


def _expected(
    model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return expected shares and log counts (asked, molecule), and which rest on a direct look (asked,)."""
    out = np.zeros((2, len(rows), len(model.plan.counts[level][names.RNA])), np.float32)
    looked_at = np.zeros(len(rows), bool)
    for inputs, state, core, places in run_windows(model, graph):
        inside = core[level].clone()
        inside[core[level]] = torch.from_numpy(rows[places[level][core[level]].numpy()])
        mine = places[level][inside].numpy()
        with torch.no_grad():
            told = model.expected(state, inputs, level)
        out[0, mine], out[1, mine], looked_at[mine] = told.shares[inside], told.logs[inside], told.looked_at[inside]
    return out[0, rows], out[1, rows], looked_at[rows]


def drawn_log_expression(
    model: TissueModel,
    shares: Floats,
    total: Floats,
    level: str,
    columns: NDArray[np.integer],
    draws: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    r"""Return draws of log1p of counts scaled to the level's depth (node, draw, molecule), of the molecules `columns`.

    Negative binomial around what is expected at each node's own depth, as the model was trained on:
    :math:`y \sim \mathrm{Poisson}(\lambda), \lambda \sim \Gamma(\theta_g, n_i p_{ig} / \theta_g)`.

    Parameters
    ----------
    shares
        Expected share of each molecule (node, molecule), as of `expected_shares`.
    total
        Counts of each node (node,), at least one.
    """
    operator, rng = model.count_operator(level, names.RNA), np.random.default_rng(seed)
    spread = operator.log_dispersion.detach().exp().numpy().astype(np.float64)[columns]
    mean = (shares[:, columns].astype(np.float64) * total[:, None])[:, None]
    rate = rng.standard_gamma(spread, (len(shares), draws, len(columns))) * mean / spread
    return np.log1p(rng.poisson(rate) * (float(operator.target_depth) / total[:, None, None])).astype(np.float32)


def measured_log_expression(
    model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_] | None = None
) -> Floats:
    """Return log1p of counts scaled to the level's depth (node, molecule), of all nodes or of those in `rows`."""
    counts = to_scipy_csr(graph.counts(level, names.RNA))[:, panel_columns(graph, level, names.RNA).numpy()]
    if rows is not None:
        counts = counts[rows]
    return scale_counts(counts, float(model.count_operator(level, names.RNA).target_depth)).toarray()


def mean_log1p(mean: Floats, dispersion: Floats, scale: float = 1.0) -> Floats:
    """Return the mean of log1p of `scale` times negative binomial counts.

    The counts have `mean` (node, molecule) and `dispersion` (molecule,).

    Summed over counts on a grid of means for dispersions rounded to a tenth of an e-fold, and interpolated.
    """
    counts = np.arange(MOST_COUNTS)
    rounded = np.round(np.log(np.clip(dispersion, 1e-3, 1e4)), 1)
    out = np.empty_like(mean)
    for theta in np.unique(rounded):
        size = np.exp(theta)
        mass = nbinom.pmf(counts[None], size, size / (size + GRID[:, None]))
        table = mass @ np.log1p(scale * counts)
        columns = rounded == theta
        values = mean[:, columns]
        # Beyond the grid the curve is a shifted logarithm.
        beyond = table[-1] + np.log1p(scale * values) - np.log1p(scale * GRID[-1])
        out[:, columns] = np.where(values > GRID[-1], beyond, np.interp(values, GRID, table))
    return out
