"""Genes that no section measured: their vector from what is known of them, with how wrong it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.graph.known import Known
from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.kernels import ridge_shares
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]

FOLDS, SWEEPS = 5, 2
# Variance of each source of what is known, in units of what is not explained; chosen on genes that were left out.
VARIANCES = (0.0, 0.1, 0.3, 1.0, 3.0)
# Measured genes that others are told from, evenly taken.
MOST_GENES = 1_500


@dataclass(frozen=True)
class Unmeasured:
    r"""What is told of genes that were not measured: :math:`\log\rho_g(z) = b + w_g \cdot z` before normalising.

    Parameters
    ----------
    genes
        Their names.
    weight, error
        Vector of each gene (gene, latent), and the variance of what left-out genes miss by (latent,).
    level, level_error
        Log share of a gene of which nothing is known but that it is one: mean and standard deviation of those measured.
    variance
        Of each source, as chosen; all 0 where nothing known helps.
    opening
        How far the vectors depart from the mean vector, as left-out genes support it.
    """

    genes: tuple[str, ...]
    weight: Floats
    error: Floats
    level: float
    level_error: float
    variance: dict[str, float]
    opening: float

    def log_shares(self, z: Floats) -> tuple[Floats, Floats]:
        """Return log shares before normalising and their standard deviations (node, gene) of states (node, latent)."""
        spread = np.sqrt(self.level_error**2 + z**2 @ self.error)
        return self.level + z @ self.weight.T, np.repeat(spread[:, None], len(self.genes), axis=1)


def tell_unmeasured(
    known: Known, panel: Sequence[str], weight: Floats, log_profile: Floats, genes: Sequence[str]
) -> Unmeasured:
    r"""Return what is told of `genes` from those measured, the `panel`, by messages along what is known.

    .. math:: \hat w = \bar w + o\,K_{*}\,(K + I)^{-1}(W - \bar w), \qquad K = \sum_k v_k K_k

    with :math:`K_k` how alike genes are by source k (`Known.likeness`): for a relation who is one or two edges away;
    for vectors it is ridge regression on them. The variances v and the opening o are those of least error on a fifth
    of the measured genes, left out in turn; with v = 0 it is the mean vector, as of a gene of which nothing is known.

    Parameters
    ----------
    weight, log_profile
        Vectors of the measured genes from their co-variation (gene, latent), and their log shares (gene,).

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634 (ridge, as kernel).
    """
    there = evenly(len(panel), MOST_GENES)
    own = weight[there].astype(np.float64)
    alike = known.likeness([*np.asarray(panel, object)[there], *genes])
    n, fold = len(there), np.random.default_rng(0).permutation(len(there)) % FOLDS
    inside = {name: kernel[:n, :n] for name, kernel in alike.items()}
    chosen = _chosen(inside, own, fold)
    left_out = _left_out(_summed(inside, chosen, (n, n)), own, fold)
    mean = own.mean(axis=0)
    flat = _left_out(np.zeros((n, n)), own, fold)
    opening = opening_of(((flat - own) ** 2).sum(axis=1) - ((left_out - own) ** 2).sum(axis=1))
    whole = _summed({name: kernel[:, :n] for name, kernel in alike.items()}, chosen, (n + len(genes), n))
    told = mean + opening * ridge_shares(whole[:n], whole[n:], 1.0) @ (own - mean)
    missed = flat + opening * (left_out - flat) - own
    return Unmeasured(
        tuple(genes),
        told,
        (missed**2).mean(axis=0),
        float(np.mean(log_profile)),
        float(np.std(log_profile)),
        chosen,
        opening,
    )


def _summed(alike: dict[str, Floats], variance: dict[str, float], shape: tuple[int, int]) -> Floats:
    return sum((variance[name] * kernel for name, kernel in alike.items()), np.zeros(shape))


def _chosen(alike: dict[str, Floats], own: Floats, fold: NDArray[np.integer]) -> dict[str, float]:
    """Return the variance of each source of least squared error on folds of genes, one after the other from none."""
    best = dict.fromkeys(alike, 0.0)
    least = np.inf
    for _ in range(SWEEPS):
        for name, kernel in alike.items():
            for tried in VARIANCES:
                variance = {**best, name: tried}
                loss = float(((_left_out(_summed(alike, variance, kernel.shape), own, fold) - own) ** 2).sum())
                if loss < least:
                    best, least = variance, loss
    return best


def _left_out(kernel: Floats, own: Floats, fold: NDArray[np.integer]) -> Floats:
    """Return the vector of each gene as told without those of its fold (gene, latent)."""
    said = np.zeros_like(own)
    for one in range(FOLDS):
        out, kept = np.flatnonzero(fold == one), np.flatnonzero(fold != one)
        mean = own[kept].mean(axis=0)
        shares = ridge_shares(kernel[np.ix_(kept, kept)], kernel[np.ix_(out, kept)], 1.0) if kernel.any() else None
        said[out] = mean if shares is None else mean + shares @ (own[kept] - mean)
    return said
