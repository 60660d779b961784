"""How far shares may be wrong: what the fit would have been of other genes, and of profiles as likely."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aivc_graph.operators.composition.mixture import Hill, Prior, Seen
from aivc_graph.operators.composition.reference_material import Material, surety

REDRAWN = 12
# The shortest interval of so few fits holds a normal quantity too seldom: each goes by this factor further.
FURTHER = 1.5
# Draws of each, and how many before them are left out.
DRAWS_OF_EACH = 4, 2
# How much of the differences of types in molecules a cell another study is expected to show, by their logarithms.
CONTENT_SHARE = 0.5


def redrawn(found: Material, start: Tensor, see: Callable[[Tensor, Tensor], Seen]) -> list[Seen]:
    r"""Return what the platform would be found to see, twelve times.

    Genes are drawn anew, by weights :math:`v_g \sim \mathrm{Exp}(1)` (Bayesian bootstrap, Rubin 1981,
    doi:10.1214/aos/1176345338): in how far departures of the tissue from the reference, gene by gene, shift shares of
    all patches alike, the genes of these very patches tell. Profiles are drawn as surely as the reference tells them,
    :math:`\mu_{tg} \Gamma(\kappa_{tg}, \kappa_{tg})`; see `surety`.

    Parameters
    ----------
    see
        Returns what is seen of profiles (type, molecule), by weights of genes (molecule,).
    """
    random, sure = torch.Generator().manual_seed(1), surety(found, len(start))
    every = []
    for _ in range(REDRAWN):
        trust = torch.empty(start.shape[1]).exponential_(1.0, generator=random)
        apart = torch._standard_gamma(sure, generator=random) / sure
        every.append(see(start * apart, trust / trust.mean()))
    return every


def wide_draws(hill: Hill, counts: Tensor, every: list[Seen], prior: Prior, start: Tensor) -> Tensor:
    """Return draws of shares (patch, type, draw) of each of the fits redrawn, in equal number, each by its own numbers.

    `counts` (patch, molecule) are those of which `hill` is, `start` (patch, type) a draw of its own.
    """
    some = []
    for seed, seen in enumerate(every):
        moved = hill.moved(counts * seen.weight, seen.rates * seen.weight, FURTHER)
        some.append(moved.draws(prior, *DRAWS_OF_EACH, start, seed))
    return torch.cat(some, dim=2)


def contents(found: Material, n_types: int) -> Tensor:
    """Return the log of the molecules in a cell of each type of the reference, less their mean (type,)."""
    kind = torch.from_numpy(found.kind)
    number = torch.bincount(kind, minlength=n_types)
    total = torch.zeros(n_types).index_add_(0, kind, found.cells.sum(dim=1))
    known = (number > 0) & (total > 0)
    logs = (total / number.clamp_min(1)).clamp_min(1e-12).log()
    return torch.where(known, logs - logs[known].mean(), 0.0)


def of_cells(draws: Tensor, content: Tensor, unsure: bool = False) -> Tensor:
    r"""Return the shares of cells that hold shares of RNA (patch, type, draw).

    Of the log of how much RNA a cell of a type holds, half of what the reference says is expected in other tissue, and
    where `unsure`, it varies about that by half of the standard deviation between types: as regression to the mean has
    it, of two studies that correlate by a half, :math:`\sqrt{\rho (1 - \rho)}`.
    """
    logs = CONTENT_SHARE * content[:, None]
    if unsure:
        spread = (CONTENT_SHARE * (1 - CONTENT_SHARE)) ** 0.5 * content.std(unbiased=False)
        random = torch.Generator().manual_seed(2)
        logs = logs + spread * torch.randn(len(content), draws.shape[2], generator=random)
    cells = draws * (-logs).exp()
    return cells / cells.sum(dim=1, keepdim=True).clamp_min(1e-12)
