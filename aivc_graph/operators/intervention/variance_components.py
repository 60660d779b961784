"""Best linear unbiased prediction of a condition: how much parts, their loadings and contexts vary, and how alike."""

from __future__ import annotations

import numpy as np

from aivc_graph.operators.intervention.conditions import Conditions, Floats, Ints
from aivc_graph.operators.kernels import ridge_shares

# Beforehand each variance is about a third of the whole, give or take a factor of twenty; genes count as at most fifty
# independent ones, so that a table of few rows does not decide beyond doubt.
USUAL_LOG, SPREAD_LOG, MOST_GENES = -1.0, 3.0, 50
LEAST_LOG, MOST_LOG = -12.0, 4.0
STEPS, FURTHER_STEPS = 60, 8


def likenesses(given: Conditions, known: Floats | None) -> Floats:
    """Return how alike rows are by each source of variance (source, row, row).

    What all conditions share; that in proportion to the number of parts; each part; with loadings, those of the parts;
    with training in several contexts, the context, each part within a context, and each combination across contexts;
    where their untreated states are known, also the state, and each part within a state.
    """
    own = given.parts.astype(float)
    number = own.sum(axis=1)
    shared = own @ own.T
    found = [np.ones_like(shared), np.outer(number, number) / 4, shared]
    if known is not None:
        likeness = (own @ known) @ (own @ known).T
        found.append(likeness / max(float(np.diag(likeness).mean()), 1e-12))
    if given.by_context:
        here = given.context[:, None] == given.context
        same = (shared == number) & (shared == number[:, None]) & (number > 1)
        found += [here.astype(float), shared * here, same.astype(float)]
        if given.width > 0:
            near = np.exp(-given.apart[given.context[:, None], given.context] / given.width)
            near = np.where(here, 1.0, np.nan_to_num(near))
            found += [near, shared * near]
    return np.stack(found)


def likenesses_known(given: Conditions) -> Floats:
    """Return how alike rows are by what is known of their parts beforehand (source, row, row)."""
    own = given.parts.astype(float)
    return np.asarray(own @ given.alike @ own.T)


def variances(given: Conditions, alike: Floats, start: Floats | None = None) -> Floats:
    r"""Return the variance of each source, and of the rest, as shares of the mean square of training effects.

    The maximum of :math:`-\log|V| - \mathrm{tr}(V^{-1} Y Y^\top)/G` with :math:`V = \sum_k v_k K_k + v_0 I`, over G
    genes, and a wide log-normal prior. With a `start` it takes a few steps from there.

    References
    ----------
    Henderson 1975, doi:10.2307/2529430; Griffing 1956, doi:10.1071/BI9560463 (the parts' and the combination's share).
    """
    from scipy.optimize import minimize

    rows = np.flatnonzero(given.train)
    sources = np.concatenate([alike[:, rows[:, None], rows], np.eye(len(rows))[None]])
    products = given.products[np.ix_(rows, rows)]
    products = products / max(float(np.trace(products)) / len(rows), 1e-300)
    weight = 2.0 / min(given.effect.shape[1], MOST_GENES) / SPREAD_LOG**2

    def loss(log: Floats) -> tuple[float, Floats]:
        v = np.exp(log)
        whole = np.tensordot(v, sources, 1)
        inverse = np.linalg.inv(whole)
        explained = inverse @ products
        slope = v * np.tensordot(sources, inverse - explained @ inverse, 2)
        away = log - USUAL_LOG
        value = np.linalg.slogdet(whole)[1] + np.trace(explained) + weight * (away**2).sum() / 2
        return float(value) / len(rows), (slope + weight * away) / len(rows)

    first = np.full(len(sources), USUAL_LOG) if start is None else np.log(start)
    steps = STEPS if start is None else FURTHER_STEPS
    bounds = [(LEAST_LOG, MOST_LOG)] * len(sources)
    return np.exp(minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}).x)


def best_linear(given: Conditions, rows: Ints, alike: Floats, variance: Floats) -> Floats:
    """Return the weight of each training row in the best linear prediction of the asked ones (asked, row)."""
    train = np.flatnonzero(given.train)
    whole = np.tensordot(variance[:-1], alike, 1)
    shares = np.zeros((len(rows), len(given.train)))
    shares[:, train] = ridge_shares(whole[np.ix_(train, train)], whole[np.ix_(rows, train)], float(variance[-1]))
    return shares
