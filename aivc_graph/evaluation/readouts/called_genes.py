"""Genes that an effect changes in a place: which, in what direction, and by how much."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import sums_by
from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground
from aivc_graph.evaluation.responses.differential import LEAST_CPM, MOST_LFC, Differential, log_fold
from aivc_graph.evaluation.responses.views import Measured
from aivc_graph.operators.intervention.condition_profiles import profiles_of

MILLION = 1e6
# A gene is called where its mean expression changes by a tenth.
CALLED_LFC = float(np.log2(1.1))


@READOUTS.register(
    "called_genes",
    reads=("effect",),
    needs=("base", "group", "own"),
    metrics=("called_sets", "called_direction", "called_size"),
    formula="of each place, genes above 5 per million whose mean changes by a tenth or more, |lfc| ≥ log2 1.1; "
    "lfc = log2((m_treated + 1e-9) / (m_untreated + 1e-9)) per million; targets of the intervention left out",
    reference="cell-eval2 (Arc Institute, vcc2026), github.com/ArcInstitute/cell-eval (sets, directions, fold changes)",
    weakness="called by size, since a true effect without noise would pass any test; the tenth is a choice",
)
def called_genes(values: Array, ground: Ground) -> Measured:
    """Return the profile of each group as the effects `values` [counts per 10,000] leave it, and the genes it calls.

    The same rule calls for the true effect and for every prediction; what the effect was done to is left out.
    """
    assert ground.base is not None and ground.group is not None and ground.own is not None
    n = int(ground.group.max()) + 1
    untreated, treated = (_per_million(sums_by(part, ground.group, n)) for part in (ground.base, ground.base + values))
    lfc = np.clip(log_fold(treated, untreated), -MOST_LFC, MOST_LFC)
    n_cells = np.bincount(ground.group, minlength=n).astype(float)
    control, profile = (profiles_of(part, n_cells, True) for part in (untreated, treated))
    unknown = np.full_like(profile, np.nan)
    return Measured(
        profile=profile,
        control=control,
        reference=control,
        variance=unknown,
        control_variance=unknown,
        distinction=np.zeros_like(profile),
        own=ground.own,
        target=np.asarray(ground.own.any(axis=0)),
        context=np.zeros(n, np.int64),
        alone=np.full((n, 2, profile.shape[1]), np.nan),
        differential=Differential((np.abs(lfc) >= CALLED_LFC) & (untreated > LEAST_CPM), lfc),
    )


def _per_million(total: Array) -> Array:
    total = np.maximum(total, 0.0)
    return np.asarray(MILLION * total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12))
