"""Counts of patches as sums of what each type gives: rates, their fit to tissue, and the posterior of shares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from aivc_graph.operators.composition.composition import non_negative

STEPS = 60
NEVER = float("inf")
# Molecules that the scatter of a gene is told of beforehand: Poisson's.
FEW = 5.0
BURN_IN, DRAWS = 20, 100
# Steps from amounts that are likeliest by rates much alike.
FEW_STEPS = 2
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


class Seen(NamedTuple):
    """What the platform of a tissue sees of each type (type, molecule), and how far a molecule is believed (molecule,).

    Counts and rates that are multiplied by the weights have the weighted likelihood as their own.
    """

    rates: Tensor
    weight: Tensor


def adapt(
    counts: Tensor,
    profiles: Tensor,
    platform: float,
    types: Tensor | None,
    rounds: tuple[int, ...],
    trust: Tensor | None = None,
) -> Iterator[Seen]:
    r"""Yield `profiles` as the platform of `counts` sees them, after each number of `rounds`, ascending.

    :math:`r_{tg} = e_g f_{tg} \mu_{tg}` with :math:`e_g \sim \Gamma(k, k)` and :math:`f_{tg} \sim \Gamma(\kappa_{tg},
    \kappa_{tg})` a priori, by alternation with the amounts; each factor is the mean of its posterior, so that what was
    hardly seen stays at 1. The effect of the platform on a gene is that of Cable et al. 2022,
    doi:10.1038/s41587-021-00830-w.

    Poisson noise alone is believed of no molecule: its weight :math:`w_g \le 1` is the inverse of how many times as
    much the counts of patches scatter about what is fitted (quasi-likelihood, Wedderburn 1974,
    doi:10.1093/biomet/61.3.439). So a gene in which reference and tissue disagree is weighed out, and a thousand
    patches that err alike do not overrule the reference.

    Parameters
    ----------
    platform, types
        k, and κ (type, molecule); infinite, or none, leaves the factor at 1.
    trust
        By how much each molecule counts more or less for the amounts (molecule,).
    """
    gene, kind = torch.ones_like(profiles[0]), torch.ones_like(profiles)
    trust = torch.ones_like(gene) if trust is None else trust
    weight, found = trust, None
    for done in range(1, rounds[-1] + 1):
        rates = profiles * gene * kind
        found = amounts(counts * weight, rates * weight, found, STEPS // 3)
        weight = reliability(counts, found @ rates) * trust
        if platform < NEVER:
            expected = found.sum(dim=0) @ (profiles * kind)
            gene = (weight * counts.sum(dim=0) + platform) / (weight * expected + platform)
        if types is not None:
            rates = profiles * gene * kind
            given = found.T @ (counts / (found @ rates).clamp_min(LEAST)) * rates
            kind = (weight * given + types) / (weight * found.sum(dim=0)[:, None] * profiles * gene + types)
        if done in rounds:
            yield Seen(profiles * gene * kind, weight)


def reliability(counts: Tensor, fitted: Tensor) -> Tensor:
    """Return Poisson's variance over that of `counts` about what is `fitted` (molecule,), at most 1."""
    return ((fitted.sum(dim=0) + FEW) / ((counts - fitted).square().sum(dim=0) + FEW)).clamp_max(1.0)


class Prior(NamedTuple):
    """How often a patch has a type at all, and the mean share where it has (type,)."""

    present: Tensor
    share: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean share of each type (type,)."""
        return self.present * self.share / (self.present * self.share).sum().clamp_min(LEAST)


class Hill(NamedTuple):
    """The log-likelihood of amounts to second order around its maximum: where, the slope that is left, the curvature.

    `at`, `slope` (patch, type); `precision` (patch, type, type), in doubles: a step of a chain is small beside a slope
    that nearly vanishes.
    """

    at: Tensor
    slope: Tensor
    precision: Tensor

    @classmethod
    def of(cls, counts: Tensor, rates: Tensor, near: Tensor | None = None) -> Hill:
        """Return the hill of `counts` (patch, molecule), looked for from amounts `near` it (patch, type) if given.

        Few steps are enough from there, since slope and curvature say the rest of the way: those of these very rates,
        as by the curvature of others, much alike or not, it ends far off.
        """
        at = amounts(counts, rates, near, 4 * STEPS // 3 if near is None else FEW_STEPS)
        fitted = (at @ rates).clamp_min(LEAST)
        precision = _square((counts / fitted.square()) @ _pairs(rates), len(rates)).double()
        return cls(at.double(), ((counts / fitted - 1) @ rates.T).double(), precision)

    def draws(
        self, prior: Prior, number: int = DRAWS, burn_in: int = BURN_IN, start: Tensor | None = None, seed: int = 0
    ) -> Tensor:
        r"""Return draws of the shares of each type (patch, type, draw), zeros where nothing was counted.

        A type is absent from a patch or, with the prior's probability, there; then its amount is exponential, of mean
        :math:`A_s` times its share, :math:`A_s` the total. Each amount is drawn in turn: whether it is nought, else
        from its truncated normal (Gibbs; Mitchell & Beauchamp 1988, doi:10.1080/01621459.1988.10478694). All patches
        use the same random numbers, so that an answer is the same alone or in company; as what is uneven in these
        shifts all patches alike, they are `stratified`.

        Parameters
        ----------
        start
            Shares to start from (patch, type); the likeliest ones if not given.
        seed
            Of the random numbers.
        """
        precision, here = self.precision, self.at.clone()
        rarity = 1.0 / (here.sum(dim=1, keepdim=True).clamp_min(LEAST) * prior.share.double().clamp_min(1e-4))
        here = here if start is None else start.double() * here.sum(dim=1, keepdim=True)
        odds = prior.present.double().clamp(1e-4, 1 - 1e-4).logit()
        pull = self.slope + (precision @ self.at[:, :, None])[:, :, 0] - rarity
        draws = torch.empty(*here.shape, number)
        for step, each in enumerate(stratified(burn_in + number, here.shape[1], seed).tolist()):
            for t, u in enumerate(each):
                held = precision[:, t, t].clamp_min(LEAST)
                others = (precision[:, t] * here).sum(dim=1) - precision[:, t, t] * here[:, t]
                here[:, t] = _drawn((pull[:, t] - others) / held, held.rsqrt(), rarity[:, t], odds[t], u)
            if step >= burn_in:
                draws[:, :, step - burn_in] = (here / here.sum(dim=1, keepdim=True).clamp_min(LEAST)).float()
        return draws * (self.at.sum(dim=1) > 0)[:, None, None]


def stratified(steps: int, n: int, seed: int) -> Tensor:
    """Return uniform numbers (step, n), in each column one in each of as many equal parts of 0 to 1 as there are steps.

    A Latin hypercube; McKay et al. 1979, doi:10.1080/00401706.1979.10489755.
    """
    random = torch.Generator().manual_seed(seed)
    part = torch.stack([torch.randperm(steps, generator=random) for _ in range(n)], dim=1)
    return (part + torch.rand(steps, n, generator=random, dtype=torch.float64)) / steps


def posterior(counts: Tensor, rates: Tensor, prior: Prior) -> Tensor:
    """Return draws of the shares of each type given `counts` (patch, type, draw); see `Hill`."""
    return Hill.of(counts, rates).draws(prior)


def _drawn(mean: Tensor, scale: Tensor, rarity: Tensor, odds: Tensor, u: float) -> Tensor:
    """Return the quantile `u` of an amount (patch,): nought, or normal and above it, as `odds` and evidence have it."""
    there = odds + rarity.log() + scale.log() + math.log(math.tau) / 2
    there = there + (mean / scale).square() / 2 + torch.special.log_ndtr(mean / scale)
    absent = torch.sigmoid(-there)
    rest = ((u - absent) / (1 - absent).clamp_min(LEAST)).clamp(1e-12, 1 - 1e-12)
    return torch.where(absent > u, 0.0, _truncated(mean, scale, rest))


def middle(draws: Tensor, inside: float = INTERVAL) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval that leaves as many draws below as above, a share `inside` between (patch, type).

    It begins at zero where a type may well be absent. The shortest such interval would more often, and end too early
    for types that are there.
    """
    ordered, last = draws.sort(dim=2).values, draws.shape[2] - 1
    outside, rest = divmod(last * (1 - inside) / 2, 1.0)
    near, far = int(outside), min(int(outside) + 1, last)
    lower, upper = (torch.lerp(each[:, :, near], each[:, :, far], rest) for each in (ordered, ordered.flip(2)))
    return lower, upper


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


def _truncated(mean: Tensor, scale: Tensor, u: Tensor) -> Tensor:
    """Return the quantile `u` (patch,) of a normal that is kept at or above zero (patch,)."""
    low = -mean / scale
    below = torch.special.ndtr(low.clamp_max(TAIL))
    drawn = mean + scale * torch.special.ndtri((below + u * (1 - below)).clamp(1e-12, 1 - 1e-12))
    return torch.where(low < TAIL, drawn, -scale * torch.log1p(-u) / low.clamp_min(TAIL)).clamp_min(0.0)


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
