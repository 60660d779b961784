"""How far shares may be wrong: what other genes, profiles as likely, longer fits and larger cells would have said."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aivc_graph.operators.composition.mixture import Hill, Prior, Seen, stratified
from aivc_graph.operators.composition.reference_material import Material, surety

REDRAWN = 12
# Draws of each, and how many before them are left out.
DRAWS_OF_EACH = 4, 2
# How much of the differences of types in molecules a cell another study is expected to show, by their logarithms.
CONTENT_SHARE = 0.5
# Cells under a capture spot of 55 µm.
CELLS = 8.0
# Variance of the molecules in a cell of a type over their squared mean: where too few cells tell it, and the most.
USUAL_SCATTER, MOST_SCATTER, FEWEST = 0.25, 1.0, 3


def redrawn(found: Material, start: Tensor, see: Callable[[Tensor, Tensor, int], Seen]) -> list[Seen]:
    r"""Return what the platform would be found to see, twelve times.

    Genes are drawn anew, by weights :math:`v_g \sim \mathrm{Exp}(1)` (Bayesian bootstrap, Rubin 1981,
    doi:10.1214/aos/1176345338): in how far departures of the tissue from the reference, gene by gene, shift shares of
    all patches alike, the genes of these very patches tell. Profiles are drawn as surely as the reference tells them,
    :math:`\mu_{tg} \Gamma(\kappa_{tg}, \kappa_{tg})`; see `surety`.

    Parameters
    ----------
    see
        Returns what is seen of profiles (type, molecule), by weights of genes (molecule,), in which of the fits.
    """
    random, sure = torch.Generator().manual_seed(1), surety(found, len(start))
    every = []
    for turn in range(REDRAWN):
        trust = torch.empty(start.shape[1]).exponential_(1.0, generator=random)
        apart = torch._standard_gamma(sure, generator=random) / sure
        every.append(see(start * apart, trust / trust.mean(), turn))
    return every


def wide_draws(hill: Hill, counts: Tensor, every: list[Seen], prior: Prior, start: Tensor) -> Tensor:
    """Return draws of shares (patch, type, draw) of each of the fits redrawn, in equal number, each by its own numbers.

    `counts` (patch, molecule) are those of which `hill` is, `start` (patch, type) a draw of its own.
    """
    some = []
    for seed, seen in enumerate(every):
        other = Hill.of(counts * seen.weight, seen.rates * seen.weight, hill.at.float())
        some.append(other.draws(prior, *DRAWS_OF_EACH, start, seed))
    return torch.cat(some, dim=2)


def contents(found: Material, n_types: int) -> Tensor:
    """Return the log of the molecules in a cell of each type of the reference, less their mean (type,)."""
    kind = torch.from_numpy(found.kind)
    number = torch.bincount(kind, minlength=n_types)
    total = torch.zeros(n_types).index_add_(0, kind, found.cells.sum(dim=1))
    known = (number > 0) & (total > 0)
    logs = (total / number.clamp_min(1)).clamp_min(1e-12).log()
    return torch.where(known, logs - logs[known].mean(), 0.0)


def scatter(found: Material, n_types: int) -> Tensor:
    """Return the variance of the molecules in a cell of each type of the reference over their squared mean (type,)."""
    total, kind = found.cells.sum(dim=1), torch.from_numpy(found.kind)
    every = torch.full((n_types,), USUAL_SCATTER)
    for one in range(n_types):
        if len(mine := total[kind == one]) >= FEWEST:
            every[one] = (mine.var() / mine.mean().square().clamp_min(1e-12)).clamp_max(MOST_SCATTER)
    return every


def of_cells(draws: Tensor, content: Tensor, unsure: Tensor | None = None) -> Tensor:
    r"""Return the shares of cells that hold shares of RNA (patch, type, draw).

    Of the log of how much RNA a cell of a type holds, half of what the reference says is expected in other tissue. By
    how much these very cells differ from it is drawn, if `unsure`, the `scatter` (type,), is given: all patches alike
    by half of the standard deviation between types, as regression to the mean has it of two studies that correlate by
    a half, :math:`\sqrt{\rho (1 - \rho)}`; and each by what the mean of as few cells varies, their variance over
    their number, which is a type's share of eight.
    """
    logs = CONTENT_SHARE * content[:, None]
    if unsure is not None:
        spread = (CONTENT_SHARE * (1 - CONTENT_SHARE)) ** 0.5 * content.std(unbiased=False)
        usual, few = torch.special.ndtri(stratified(draws.shape[2], 2 * len(content), 2)).float().T.split(len(content))
        logs = logs + spread * usual + few * (unsure[:, None] / (CELLS * draws).clamp_min(1.0)).log1p().sqrt()
    cells = draws * (-logs).exp()
    return cells / cells.sum(dim=1, keepdim=True).clamp_min(1e-12)


def from_none(lower: Tensor) -> Tensor:
    """Return the lower ends of intervals (patch, type), at zero below half a cell: there is no such share."""
    return torch.where(lower < 0.5 / CELLS, 0.0, lower)
