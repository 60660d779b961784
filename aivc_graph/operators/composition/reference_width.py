"""How wide intervals of shares have to be: judged on patches put together of cells that no profile comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.operators.composition.mixture import INTERVAL, Hill, Prior, Seen, shortest
from aivc_graph.operators.composition.reference_material import Material, profiles

MADE, CELLS_IN_MADE = 300, 8
TEMPERS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ALIKE = 10


def calibrate(found: Material, seen: Seen, prior: Prior, see: Callable[[Material, Tensor], Seen]) -> float:
    """Return how much less counts are to be believed so that 90 % of the true shares of made patches lie within.

    Cells that patches are made of are those of donors from which no profile comes, or of one donor alone, the half of
    each type along the main axis of its variation, as those of another donor would be. Counts are never believed more,
    and least where no type has cells enough to hold any out.

    Parameters
    ----------
    see
        Returns what the platform of patches sees of profiles, as the fit found it for the tissue.
    """
    far, start = held_out_cells(found), profiles(found.cells, found.kind, len(seen.rates))
    if not far.any():
        return TEMPERS[-1]
    counts, true = make_patches(found, seen.rates / start.clamp_min(1e-12), prior, far)
    near = found.of_cells(~far, counts)
    rates, weight = see(near, profiles(near.cells, near.kind, len(start)))
    hill, covered = Hill.of(counts * weight, rates * weight), []
    for temper in TEMPERS:
        lower, upper = shortest(hill.draws(prior, temper))
        covered.append(float(((lower <= true + 1e-6) & (true <= upper + 1e-6)).double().mean()))
    return float(np.exp(np.interp(INTERVAL, np.maximum.accumulate(covered), np.log(TEMPERS))))


def held_out_cells(found: Material) -> NDArray[np.bool_]:
    """Return who is of every second donor, if types are on both sides; else beyond the median of its type (cell,).

    The median along the type's main axis of variation.
    """
    far = np.zeros(len(found.kind), bool)
    for one in np.unique(found.kind):
        rows = np.flatnonzero(found.kind == one)
        second = np.isin(found.donor[rows], np.unique(found.donor[rows])[1::2])
        far[rows] = second if second.any() else _beyond(found.cells[rows])
    return far


def _beyond(cells: Tensor) -> NDArray[np.bool_]:
    if len(cells) < 4:
        return np.zeros(len(cells), bool)
    logs = torch.log1p(1e4 * cells / cells.sum(dim=1, keepdim=True).clamp_min(1.0))
    apart = logs - logs.mean(dim=0)
    along = (apart @ torch.linalg.svd(apart, full_matrices=False).Vh[0]).numpy()
    return np.asarray(along > np.median(along))


def make_patches(found: Material, factors: Tensor, prior: Prior, who: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Return counts of patches put together of eight cells each, as deep as those of the tissue, and their shares.

    Types are as frequent as in the tissue. A gene is seen of a type by the factor (type, gene) of another gene that is
    expressed as much: how uneven the platform is, the tissue tells, and not of which gene.
    """
    random = np.random.default_rng(1)
    there = [np.flatnonzero(who & (found.kind == one)) for one in range(len(factors))]
    weight = np.array([len(rows) > 0 for rows in there]) * prior.mean.double().numpy()
    depth, order = found.patches.sum(dim=1).numpy(), _shuffled(found.cells.sum(dim=0).numpy(), random)
    counts, true = torch.zeros(MADE, found.cells.shape[1]), torch.zeros(MADE, len(factors))
    for row in range(MADE):
        mixed = random.dirichlet(4.0 * weight[weight > 0] / weight.sum())
        for one in random.choice(np.flatnonzero(weight > 0), CELLS_IN_MADE, p=mixed):
            cell = found.cells[random.choice(there[one])] * factors[one, order]
            counts[row] += cell
            true[row, one] += cell.sum()
        share = (counts[row] / counts[row].sum().clamp_min(1e-12)).double().numpy()
        counts[row] = torch.from_numpy(random.multinomial(int(random.choice(depth)), share / share.sum())).float()
    return counts, true / true.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _shuffled(expressed: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    """Return a permutation of genes that keeps each among those expressed as much."""
    order = np.empty(len(expressed), np.int64)
    for some in np.array_split(np.argsort(expressed, kind="stable"), ALIKE):
        order[some] = random.permutation(some)
    return order
