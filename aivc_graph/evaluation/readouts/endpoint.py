"""What became of a donor, such as a stage of disease, told from what its tissue is made of."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground

# Of the mean variance of a column, added to each.
SHRUNK = 1.0


@READOUTS.register(
    "endpoint",
    reads=("composition",),
    needs=("donor", "outcome"),
    metrics=("macro_f1",),
    formula="the class k with the largest x W⁻¹ m_k - m_k W⁻¹ m_k / 2, x roots of shares, m_k their mean in a class, W "
    "the covariance within classes, the mean variance added to that of each column; each donor told by all others",
    reference="Friedman 1989, doi:10.1080/01621459.1989.10478752 (regularized discriminant analysis); Damond et al. "
    "2019, doi:10.1016/j.cmet.2018.11.014",
    weakness="as many donors as there are, rarely many: chance is not far; other differences between donors count too",
)
def endpoint(values: Array, ground: Ground) -> Array:
    """Return the class of each section (section,) by its shares (section, kind), as fitted on all other donors.

    Linear discriminants of roots of shares, between which the Euclidean distance is Hellinger's, their common
    covariance shrunk towards even columns. Classes weigh alike, and so do the donors of each. Regression on classes
    would miss one that lies between two others, as a stage does between an earlier and a later one.
    """
    assert ground.donor is not None and ground.outcome is not None
    x, found = np.sqrt(np.maximum(values, 0.0)), np.full(len(values), -1)
    for one in np.unique(ground.donor):
        out = ground.donor == one
        rows = ~out & (ground.outcome >= 0)
        kinds, code = np.unique(ground.outcome[rows], return_inverse=True)
        if len(kinds):
            scores = _discriminants(x[rows], np.eye(len(kinds))[code.reshape(-1)], ground.donor[rows], x[out])
            found[out] = kinds[scores.argmax(axis=1)]
    return found


def _discriminants(x: Array, wanted: Array, donor: Array, asked: Array) -> Array:
    """Return a score a class (asked, class), the nearer its mean the larger."""
    weight = _alike(wanted, donor)
    mean = (wanted * weight[:, None]).T @ x / (wanted.T @ weight)[:, None]
    apart = x - mean[wanted.argmax(axis=1)]
    spread = (apart * weight[:, None]).T @ apart
    spread += (SHRUNK * np.trace(spread) / len(spread) + 1e-12) * np.eye(len(spread))
    weights = np.linalg.solve(spread, mean.T)
    return np.asarray(asked @ weights - 0.5 * (mean.T * weights).sum(axis=0))


def _alike(wanted: Array, donor: Array) -> Array:
    """Return weights (section,) of sum one: classes weigh alike, and so do the donors of each."""
    weight = np.ones(len(donor))
    for one in np.unique(donor):
        weight[donor == one] /= (donor == one).sum()
    by_class = wanted.T @ weight
    weight /= by_class[wanted.argmax(axis=1)]
    return weight / weight.sum()
