"""What the model expects to be measured, in the terms in which measurements are compared."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.panels import panel, panel_columns
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.terms import dense, measured_terms
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.operators.prediction.modality import ModalityPrediction
from aivc_graph.operators.quantile_law import QuantileLaw
from aivc_graph.operators.residual_scores import ResidualScores, counts_of
from aivc_graph.operators.state import Expected
from aivc_graph.query.states import run_windows

Floats = NDArray[np.floating]
GRID = np.concatenate([[0.0], np.geomspace(1e-3, 200.0, 60)])
MOST_COUNTS = 2000
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


def expected_log_expression(model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_]) -> Floats:
    """Return the expected log1p of counts scaled to the level's depth, for the nodes in `rows` (asked, molecule).

    Where intensities were measured and no RNA, their expected arcsinh.

    A direct look at a node (its tile, the cells beneath, its neighbours) speaks of log counts already; what the state
    says is a rate, whose log is larger than the mean log of counts around it: there the negative binomial is averaged
    over, at the depths at which the nodes of the same section were counted.
    """
    modality = expressed(model, level)
    operator, told = model.part("measurement", level, modality), expected(model, graph, level, rows)
    if modality not in names.MOLECULE_OF:
        return told.logs.numpy()
    depth = float(operator.target_depth)
    shares, out, looked_at = told.shares.numpy(), told.logs.numpy(), told.looked_at.numpy()
    dispersion = operator.dispersion().detach().exp().numpy()
    section = graph[level].section_index.numpy()
    total = np.asarray(to_scipy_csr(graph.counts(level, modality)).sum(axis=1)).ravel()
    for one in np.unique(section[rows][~looked_at]):
        here, counted = (section[rows] == one) & ~looked_at, total[(section == one) & (total > 0)]
        depths = np.quantile(counted, DEPTHS) if len(counted) else np.array([depth])
        out[here] = np.mean([mean_log1p(shares[here] * n, dispersion, depth / n) for n in depths], axis=0)
    return out


def expressed(model: TissueModel, level: str) -> str:
    """Return the modality that expression at `level` is asked of.

    Raises
    ------
    QueryError
        If neither molecules nor markers were measured there.
    """
    found = model.plan.expressed(level)
    if found is None:
        raise QueryError(f"expression at {level}", "neither molecules nor markers were measured there", "another level")
    return found


def expected(model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_]) -> Expected:
    """Return what is expected of the nodes in `rows`, as of `TissueModel.expected`, in their order."""
    modality = expressed(model, level)
    size = (len(rows), len(model.plan.panels[level][modality]))
    out = Expected(*torch.zeros(2, *size), *torch.zeros(2, len(rows), dtype=torch.bool))
    for inputs, state, core, places in run_windows(model, graph, question=EXPRESSION):
        inside = core[level].clone()
        inside[core[level]] = torch.from_numpy(rows[places[level][core[level]].numpy()])
        mine = places[level][inside]
        with torch.no_grad():
            told = model.expected(state, inputs, level, modality)
        for whole, part in zip(vars(out).values(), vars(told).values(), strict=True):
            whole[mine] = part[inside]
    asked = torch.from_numpy(rows)
    return Expected(*(whole[asked] for whole in vars(out).values()))


def told_by_others(
    model: TissueModel, graph: TissueGraph, level: str, modality: str, rows: NDArray[np.bool_]
) -> Floats | None:
    """Return a modality of the nodes in `rows` told from another that was seen of them (asked, molecule).

    In its own terms (`in_terms`); NaN where no other was seen. None where too few nodes trained to learn it from.
    """
    part = next(
        (
            one
            for one in model.parts_of("prediction")
            if isinstance(one, ModalityPrediction) and one.target == (level, modality)
        ),
        None,
    )
    out = np.full((len(rows), len(panel(graph, level, modality))), np.nan)
    for inputs, state, core, places in run_windows(model, graph, question=EXPRESSION):
        inside = core[level].numpy() & rows[places[level].numpy()]
        found = None if part is None else part.told(state, inputs, torch.from_numpy(inside))
        if found is None:
            return None
        out[places[level].numpy()[found[1]]] = found[0][found[1]]
    return out[rows]


def drawn_log_expression(
    model: TissueModel,
    told: Expected,
    total: Floats,
    level: str,
    columns: NDArray[np.integer],
    draws: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return draws of log1p of counts scaled to the level's depth (node, draw, molecule), of the molecules `columns`.

    Of intensities draws of their arcsinh. Molecules depart together from what is expected of the node, as in a measured
    node of like expectation.

    Parameters
    ----------
    told
        What is expected of each node, as of `expected`.
    total
        Counts of each node (node,), or of each node in each draw (node, draw), at least one.
    """
    around, rng = _around(model, level), np.random.default_rng(seed)
    residuals = ResidualScores(told.shares.shape[1]) if around is None else around.residuals
    score = residuals.draw(_place(model, told, level), columns, draws, rng)
    if (modality := expressed(model, level)) not in names.MOLECULE_OF:
        law = QuantileLaw(told.logs.shape[1]) if around is None else around.law
        return np.asarray(law.values(score, told.logs.double().numpy()[:, columns], columns), np.float32)
    depth = float(model.count_operator(level, modality).target_depth)
    total = np.broadcast_to(total if np.ndim(total) == 2 else total[:, None], score.shape[:2])[:, :, None]
    shares, dispersion = (values[:, None, columns] for values in _law(model, told, level))
    return np.log1p(counts_of(score, shares * total, dispersion) * (depth / total)).astype(np.float32)


def _place(model: TissueModel, told: Expected, level: str) -> Floats:
    """Return what is expected on the components of the encoding (node, latent): nodes alike there are alike."""
    part = model.part("measurement", level, expressed(model, level))
    return np.asarray((told.logs @ part.loading.detach()).numpy())


def _around(model: TissueModel, level: str) -> Any:
    """Return what tells expression at a level from around, None where nothing does."""
    parts = (part for part in model.parts_of("prediction") if part.looks_around)
    return next((part for part in parts if part.target == (level, expressed(model, level))), None)


def _law(model: TissueModel, told: Expected, level: str) -> tuple[Floats, Floats]:
    """Return expected shares and dispersion (node, molecule): as trained, or of nodes told by their neighbours."""
    with model.asked(EXPRESSION):
        dispersion = (
            model.count_operator(level, expressed(model, level)).dispersion().detach().expand(len(told.shares), -1)
        )
    if (around := _around(model, level)) is not None:
        dispersion = torch.where(told.around[:, None], around.log_dispersion, dispersion)
    return told.shares.numpy().astype(np.float64), dispersion.exp().numpy().astype(np.float64)


def measured_log_expression(
    model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_] | None = None
) -> Floats:
    """Return log1p of counts scaled to the level's depth (node, molecule), of all nodes or of those in `rows`.

    Where intensities were measured and no RNA, their arcsinh.
    """
    modality = expressed(model, level)
    if modality not in names.MOLECULE_OF:
        return dense(measured_terms(graph, level, modality, slice(None) if rows is None else rows))
    counts = to_scipy_csr(graph.counts(level, modality))[:, panel_columns(graph, level, modality).numpy()]
    if rows is not None:
        counts = counts[rows]
    return scale_counts(counts, float(model.count_operator(level, modality).target_depth)).toarray()


def mean_log1p(mean: Floats, dispersion: Floats, scale: float = 1.0) -> Floats:
    """Return the mean of log1p of `scale` times negative binomial counts.

    The counts have `mean` (node, molecule) and `dispersion` (molecule,).

    Summed over counts on a grid of means for dispersions rounded to a tenth of an e-fold, and interpolated.
    """
    counts = np.log1p(scale * np.arange(MOST_COUNTS))
    rounded = np.round(np.log(np.clip(dispersion, 1e-3, 1e4)), 1)
    out = np.empty_like(mean)
    for theta in np.unique(rounded):
        table = _mass(float(theta)) @ counts
        columns = rounded == theta
        values = mean[:, columns]
        # Beyond the grid the curve is a shifted logarithm.
        beyond = table[-1] + np.log1p(scale * values) - np.log1p(scale * GRID[-1])
        out[:, columns] = np.where(values > GRID[-1], beyond, np.interp(values, GRID, table))
    return out


@functools.lru_cache(maxsize=64)
def _mass(theta: float) -> Floats:
    """Return how likely each count is at each mean of the grid (mean, count), for a dispersion exp(`theta`)."""
    from scipy.stats import nbinom

    size = np.exp(theta)
    return np.asarray(nbinom.pmf(np.arange(MOST_COUNTS)[None], size, size / (size + GRID[:, None])))
