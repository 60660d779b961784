"""Sets of cells: how far predicted cells lie from measured ones, as distributions and one by one."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from scipy.spatial.distance import cdist

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, Array, each
from aivc_graph.evaluation.responses.spread import Space, kernels
from aivc_graph.evaluation.responses.views import AbstractResponseMetric, Floats, Measured, Predicted

CHUNK = 2_000


class _OfCells(AbstractResponseMetric):
    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a distance a row; none where either side has no cells, or only one."""
        said, true = predicted.space, measured.space
        if said is None or true is None:
            return np.zeros((len(measured), 2))
        return each(self.distances(said, true))

    @abstractmethod
    def distances(self, said: Space, true: Space) -> Floats:
        """Return the distance of the two sets of cells of each row (row,)."""


@METRICS.register(
    "energy_distance",
    formula="mean over conditions of 2 E|X - Y| - E|X - X'| - E|Y - Y'|, Euclidean, not squared; U-statistic; up to 50 "
    "principal components of training cells; at most 300 cells a side, drawn at random",
    best=0.0,
    higher_is_better=False,
    reference="Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018; Peidli et al. 2024, "
    "doi:10.1038/s41592-023-02144-y",
    weakness="led by the spread of single cells; may fall a little below 0; 300 cells leave a standard "
    "error of some thousandth of the mean distance between cells",
)
class EnergyDistance(_OfCells):
    """Energy distance between predicted and measured cells, unbiased: two draws of the same cells give 0 on average."""

    def distances(self, said: Space, true: Space) -> Floats:
        """Return the distance of each row."""
        between = np.array([np.sqrt(squares).mean() for squares in said.between(true)])
        return 2 * between - said.within[:, 0] - true.within[:, 0]


@METRICS.register(
    "mmd_rbf",
    formula="mean over conditions of E k(X, X') + E k(Y, Y') - 2 E k(X, Y); k = mean over s of exp(-|x - y|² / 2 s²), "
    "s the median distance of training cells times 1/4, 1/2, 1, 2, 4; U-statistic; space and cells as energy_distance",
    best=0.0,
    higher_is_better=False,
    reference="Gretton et al. 2012, JMLR 13, 723-773",
    weakness="depends on the bandwidths; far sets all look alike; may fall a little below 0",
)
class MmdRbf(_OfCells):
    """Squared maximum mean discrepancy with a mean of Gaussian kernels."""

    def distances(self, said: Space, true: Space) -> Floats:
        """Return the discrepancy of each row."""
        between = np.array([kernels(squares, true.bandwidths).mean() for squares in said.between(true)])
        return said.within[:, 1] + true.within[:, 1] - 2 * between


@METRICS.register(
    "foscttm",
    formula="mean over cells of the share of others closer than the true match, those as far by half, both directions, "
    "Euclidean",
    best=0.0,
    higher_is_better=False,
    reference="Liu et al. 2019, doi:10.4230/LIPIcs.WABI.2019.10; Cao & Gao 2022, doi:10.1038/s41587-022-01284-4",
    weakness="chance is a half; cells of one type are alike, so that 0 is out of reach",
)
class Foscttm(AbstractMean):
    """Fraction of samples closer than the true match, of predicted to measured features (cell, feature) and back."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a share a cell."""
        return each((_closer(predicted, measured) + _closer(measured, predicted)) / 2)


def _closer(x: Floats, y: Floats) -> Floats:
    """Return for each row of `x` the share of other rows of `y` that are closer than its own, those as far by half."""
    shares = np.zeros(len(x))
    for start in range(0, len(x), CHUNK):
        far = cdist(x[start : start + CHUNK], y)
        own = far[np.arange(len(far)), np.arange(start, start + len(far))]
        closer, as_far = (far < own[:, None]).sum(axis=1), (far == own[:, None]).sum(axis=1) - 1
        shares[start : start + CHUNK] = (closer + 0.5 * as_far) / max(len(y) - 1, 1)
    return shares
