"""Activity of pathways and transcription factors, told by the genes that follow them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import QueryError

Floats = NDArray[np.floating]
LEAST_TARGETS = 5


class Footprints:
    r"""Weights of sources on measured genes, by which expression is read as activity.

    The activity of a source is the slope of log expression on its weights over all measured genes,

    .. math:: a_s = \frac{\sum_g (w_{sg} - \bar w_s)\, y_g}{\sum_g (w_{sg} - \bar w_s)^2}

    with a weight of 0 where a gene is none of its targets: the univariate linear model.

    Parameters
    ----------
    weights
        Columns ``source``, ``target``, ``weight``.
    genes
        The measured genes, in the order of the expression.

    Raises
    ------
    QueryError
        If no source has at least five targets among the measured genes.

    References
    ----------
    Badia-i-Mompel et al. 2022, doi:10.1093/bioadv/vbac016 (ulm). Schubert et al. 2018, doi:10.1038/s41467-017-02391-6.
    """

    def __init__(self, weights: pd.DataFrame, genes: Sequence[str]) -> None:
        measured = weights[weights["target"].isin(list(genes))]
        table = measured.pivot(index="source", columns="target", values="weight").reindex(columns=list(genes))
        table = table[table.notna().sum(axis=1) >= LEAST_TARGETS].fillna(0.0)
        if table.empty:
            found = f"{weights['target'].nunique():,} targets, {measured['target'].nunique():,} of them measured"
            mend = "check that the symbols are of the same species as the tissue's"
            raise QueryError("weights", found, f"a source with at least {LEAST_TARGETS} measured targets", mend)
        self.sources = [str(name) for name in table.index]
        centred = table.to_numpy(float) - table.to_numpy(float).mean(axis=1, keepdims=True)
        square = (centred**2).sum(axis=1, keepdims=True)
        self._slope = np.divide(centred, square, out=np.zeros_like(centred), where=square > 1e-12)

    def activity(self, counts_per: Floats) -> Floats:
        """Return activities (…, source) of expression in counts per 10,000 (…, gene), as log2(1 + counts)."""
        return self.of_log(np.log2(1 + counts_per))

    def activity_error(self, counts_per: Floats, error: Floats) -> Floats:
        """Return standard errors of activities (…, source), given those of expression that each gene errs by alone."""
        by_gene = error / (1 + counts_per) / np.log(2)
        return np.asarray(np.sqrt(by_gene**2 @ (self._slope.T**2)))

    def of_log(self, expression: Floats) -> Floats:
        """Return activities (…, source) of log expression, or of its changes (…, gene), in the unit of that log."""
        return np.asarray(expression @ self._slope.T)
