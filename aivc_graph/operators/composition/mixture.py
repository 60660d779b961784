"""Counts of patches as sums of what each type gives: rates, their fit to tissue, and the posterior of shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aivc_graph.operators.composition.composition import non_negative

STEPS = 60
# Few, on purpose: where profiles are wrong the likeliest factors lie far from the true ones, and few stay near 1.
ROUNDS = 8
BURN_IN, DRAWS = 15, 25
INTERVAL = 0.9
LEAST = 1e-12
# Beyond so many standard deviations the tail of a normal is an exponential.
TAIL = 5.0


def least_squares(counts: Tensor, profiles: Tensor) -> Tensor:
    """Return the shares of the non-negative least-squares fit (patch, type)."""
    found = torch.from_numpy(non_negative(counts.double().numpy(), profiles.double().numpy()))
    return (found / found.sum(dim=1, keepdim=True).clamp_min(1e-12)).to(counts)


def amounts(counts: Tensor, rates: Tensor, start: Tensor | None = None, steps: int = STEPS) -> Tensor:
    r"""Return how much of each type makes `counts` likeliest under Poisson noise (patch, type).

    Expectation–maximisation on :math:`y_{sg} \sim \mathrm{Poisson}(\sum_t a_{st} r_{tg})`,

    .. math:: a_{st} \leftarrow a_{st} \frac{\sum_g r_{tg} y_{sg} / m_{sg}}{\sum_g r_{tg}}

    which never leaves :math:`a \ge 0`. Richardson 1972, doi:10.1364/JOSA.62.000055.
    """
    total = rates.sum(dim=1).clamp_min(LEAST)
    found = (counts.sum(dim=1, keepdim=True) / total.sum()).expand(-1, len(rates)) if start is None else start
    for _ in range(steps):
        found = found * ((counts / (found @ rates).clamp_min(LEAST)) @ rates.T) / total
    return found


def adapt(counts: Tensor, profiles: Tensor, platform: float, types: float) -> Tensor:
    r"""Return `profiles` as the platform of `counts` sees them (type, molecule).

    :math:`r_{tg} = e_g f_{tg} \mu_{tg}` with :math:`e_g \sim \Gamma(k, k)` and :math:`f_{tg} \sim \Gamma(\kappa,
    \kappa)` a priori, by alternation with the amounts; each factor is the mean of its posterior, so that what was
    hardly seen stays at 1. The effect of the platform on a gene is that of Cable et al. 2022,
    doi:10.1038/s41587-021-00830-w.

    Parameters
    ----------
    platform, types
        k and κ; infinite leaves the factor at 1.
    """
    gene, kind = torch.ones_like(profiles[0]), torch.ones_like(profiles)
    found = None
    for _ in range(ROUNDS):
        rates = profiles * gene * kind
        found = amounts(counts, rates, found, STEPS // 2)
        if platform < float("inf"):
            expected = found.sum(dim=0) @ (profiles * kind)
            gene = (counts.sum(dim=0) + platform) / (expected + platform)
            rates = profiles * gene * kind
        if types < float("inf"):
            given = found.T @ (counts / (found @ rates).clamp_min(LEAST)) * rates
            kind = (given + types) / (found.sum(dim=0)[:, None] * profiles * gene + types)
    return profiles * gene * kind


def posterior(counts: Tensor, rates: Tensor, prior: Tensor, start: Tensor | None = None) -> Tensor:
    r"""Return draws of the shares of each type given `counts` (patch, type, draw).

    The log-likelihood to second order around its maximum, with an exponential prior of mean :math:`A_s \pi_t` on each
    amount, :math:`A_s` the total; each amount is drawn in turn from its truncated normal (Gibbs; Geweke 1991). All
    patches use the same random numbers, so that an answer is the same alone or in company.

    Parameters
    ----------
    prior
        Mean share of each type (type,).
    start
        Amounts near the likeliest (patch, type).
    """
    at = amounts(counts, rates, start, STEPS if start is None else STEPS // 3)
    fitted = (at @ rates).clamp_min(LEAST)
    precision = _square((counts / fitted.square()) @ _pairs(rates), len(rates)).double()
    # From here on in doubles: a step of a chain is small beside a slope that nearly vanishes.
    slope, here = ((counts / fitted - 1) @ rates.T).double(), at.double()
    slope = slope - 1.0 / (here.sum(dim=1, keepdim=True).clamp_min(LEAST) * prior.double().clamp_min(1e-4))
    at = here.clone()
    uniform = torch.rand(BURN_IN + DRAWS, len(rates), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = torch.empty(*here.shape, DRAWS)
    for step, each in enumerate(uniform.tolist()):
        for t, u in enumerate(each):
            held = precision[:, t, t].clamp_min(LEAST)
            pull = slope[:, t] - (precision[:, t] * (here - at)).sum(dim=1)
            here[:, t] = _truncated(here[:, t] + pull / held, held.rsqrt(), u)
        if step >= BURN_IN:
            draws[:, :, step - BURN_IN] = (here / here.sum(dim=1, keepdim=True).clamp_min(LEAST)).float()
    return draws * (counts.sum(dim=1) > 0)[:, None, None]


def shortest(draws: Tensor, inside: float = INTERVAL) -> tuple[Tensor, Tensor]:
    """Return the shortest interval that holds a share `inside` of the draws (patch, type); from zero at the edge.

    One that begins at the least of the draws, which are never quite zero, begins at zero.
    """
    ordered = draws.sort(dim=2).values
    number = round(inside * ordered.shape[2])
    first = (ordered[:, :, number - 1 :] - ordered[:, :, : ordered.shape[2] - number + 1]).argmin(dim=2, keepdim=True)
    lower, upper = ordered.gather(2, first)[:, :, 0], ordered.gather(2, first + number - 1)[:, :, 0]
    return torch.where(first[:, :, 0] == 0, 0.0, lower), upper


def unexplained(counts: Tensor, expected: Tensor) -> Tensor:
    r"""Return the share of a patch's molecules that no mixture of the types accounts for (patch,), 0 to 1.

    `expected` is what the likeliest amounts make expected of each molecule (patch, molecule).

    :math:`\sum_g (y - m)_+ / \sum_g y` less what it would be by chance, :math:`E(y - m)_+ = m^{n} e^{-m} / (n-1)!` with
    :math:`n = \lfloor m \rfloor + 1` for Poisson counts (de Moivre).
    """
    mean = expected.clamp_min(LEAST)
    above = mean.floor() + 1
    chance = (above * mean.log() - mean - torch.lgamma(above)).exp().sum(dim=1)
    excess = (counts - mean).clamp_min(0.0).sum(dim=1) - chance
    return (excess / counts.sum(dim=1).clamp_min(1.0)).clamp(0.0, 1.0)


def _truncated(mean: Tensor, scale: Tensor, u: float) -> Tensor:
    """Return the quantile `u` of a normal that is kept at or above zero (patch,)."""
    low = -mean / scale
    below = torch.special.ndtr(low.clamp_max(TAIL))
    drawn = mean + scale * torch.special.ndtri((below + u * (1 - below)).clamp(1e-12, 1 - 1e-12))
    return torch.where(low < TAIL, drawn, -scale * math.log1p(-u) / low.clamp_min(TAIL)).clamp_min(0.0)


def _pairs(rates: Tensor) -> Tensor:
    """Return the products of rates of each two types (molecule, type × (type + 1) / 2)."""
    i, j = torch.triu_indices(len(rates), len(rates))
    return (rates[i] * rates[j]).T


def _square(flat: Tensor, n: int) -> Tensor:
    """Return symmetric matrices (patch, type, type) of their upper triangles."""
    i, j = torch.triu_indices(n, n)
    full = flat.new_zeros(len(flat), n, n)
    full[:, i, j], full[:, j, i] = flat, flat
    return full
