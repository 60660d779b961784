"""Closed form of what neighbours tell of expression: how far a node follows their counts, and how far its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from aivc_graph import names
from aivc_graph.operators.measured import Mask, mean_there
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Fold, Hidden

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.kernel_mean import AbstractKernelMean

TURNS = 4
MOST_VALUES = 4_000_000
LEAST_NODES = 10
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Seen:
    """Hidden nodes: what is `said` without neighbours, the mean of each ring, and what was measured.

    All are as `AbstractKernelMean.values` has them.
    `said`, `measured` (node, molecule), `rings` (ring, node, molecule), `numbers` (ring, node), `total` counts, one
    where nothing is counted, those that the whole panel would have had, and `section` (node,); `there` (node,
    molecule), what was measured, None where all was.
    """

    said: Floats
    rings: Floats
    numbers: Floats
    measured: Floats
    total: Floats
    section: NDArray[np.int64]
    there: Mask | None = None


def fit_neighbours(readout: AbstractKernelMean, fitting: Fitting) -> None:
    """Fit a readout of neighbours, on nodes whose own counts are hidden by turns, a quarter at a time.

    The weights of rings and the shares of state and neighbours are fitted on `held_out` nodes: the state has learned
    from training nodes, the mean of neighbours has not, and there it would be trusted too much. Held out are few
    sections, and what a state has learned need not travel to others: of its share one standard error is taken off, from
    how far the shares of single sections differ, training ones included. What turns the mixture into expected log
    counts and into shares is fitted on all.
    """
    trained = _seen(readout, fitting, fitting.training)
    asked = trained if fitting.held_out is fitting.training else _seen(readout, fitting, fitting.held_out) or trained
    if asked is None or trained is None:
        return
    everyone = [asked, *([trained] if asked is not trained else [])]
    _set_shares(readout, everyone)
    _set_levels(readout, everyone)
    measurement = fitting.model.part("measurement", *readout.target)
    readout.fit_law(everyone, trained, measurement)


def _seen(readout: AbstractKernelMean, fitting: Fitting, folds: list[Fold]) -> Seen | None:
    """Return the measured nodes of `folds` with a visible node in each ring while hidden; None if too few."""
    level = readout.plan.level
    counted = [(fold, fold.training(level, fold.inputs.measured(*readout.target).mask)) for fold in folds]
    share = MOST_VALUES / readout.plan.n_molecules / max(sum(len(rows) for _, rows in counted), 1)
    turns = min(TURNS, max(1, int(np.ceil(share * TURNS))))
    every = max(1, int(np.ceil(turns / TURNS / share)))
    generator, parts = np.random.default_rng(fitting.seed), []
    for fold, rows in counted:
        seen = (fold.inputs.split[level] <= names.SPLITS.index(names.VALIDATION)).cpu().numpy()
        turn = np.full(len(seen), TURNS)
        turn[seen] = generator.integers(0, TURNS, int(seen.sum()))
        for now in range(turns):
            asked = rows[turn[rows] == now][::every]
            if len(asked):
                parts.append(_hidden_by_turn(readout, fitting, fold, torch.from_numpy(turn == now), asked))
    if sum(len(part.measured) for part in parts) < LEAST_NODES:
        return None
    return Seen(
        said=np.concatenate([part.said for part in parts]),
        rings=np.concatenate([part.rings for part in parts], axis=1),
        numbers=np.concatenate([part.numbers for part in parts], axis=1),
        measured=np.concatenate([part.measured for part in parts]),
        total=np.concatenate([part.total for part in parts]),
        section=np.concatenate([part.section for part in parts]),
        there=joined(parts),
    )


def joined(parts: list[Seen]) -> Mask | None:
    """Return what was measured of the nodes of all parts (node, molecule); None where all was."""
    if all(part.there is None for part in parts):
        return None
    return np.concatenate([np.ones(part.measured.shape, bool) if part.there is None else part.there for part in parts])


def _hidden_by_turn(
    readout: AbstractKernelMean, fitting: Fitting, fold: Fold, hidden: Tensor, asked: NDArray[np.int64]
) -> Seen:
    level, inputs, model = readout.plan.level, fold.inputs, fitting.model
    mask = hidden.float().to(inputs.device)
    counts = [one.key for one in model.parts_of("measurement") if one.measures and one.plan.level == level]
    state = model(inputs, Hidden(nodes=dict.fromkeys(counts, mask)))
    sums, numbers = readout.around(state, inputs)
    said = model.expected(state, inputs, *readout.target, without=readout).logs
    number = torch.stack(numbers)[:, asked]
    # A ring that nobody has, as where edges are fewer than rings hold, keeps no node out.
    there = number.sum(dim=1) > 0
    surrounded = ((number[there] > 0).all(dim=0) & there.any()).cpu().numpy()
    data = inputs.measured(*readout.target)
    kept = surrounded & (readout.reached(data).cpu().numpy()[asked] > 0)
    rows, number = asked[kept], number[:, torch.from_numpy(kept)]
    measured = readout.there(data)
    return Seen(
        said=readout.within(said, data)[rows].cpu().numpy(),
        rings=torch.stack([total[rows] for total in sums]).div(number[:, :, None].clamp_min(1)).cpu().numpy(),
        numbers=number.cpu().numpy(),
        measured=readout.measured(data, rows).cpu().numpy(),
        total=readout.total(data)[rows].cpu().numpy(),
        section=inputs.section[level].cpu().numpy()[rows],
        there=None if len(measured) == 1 or bool(measured.all()) else measured[rows].cpu().numpy(),
    )


def _set_shares(readout: AbstractKernelMean, seen: list[Seen]) -> None:
    """Regress measured on predicted log counts within sections, a share of 0 to 1 each, and of each ring its weight.

    Of `seen` the first are the nodes it is fitted on; all tell how far the state's share differs between sections.
    """
    asked = seen[0]
    wanted = _within(asked.measured, asked.section)
    # Molecules count alike, but for those that hardly vary: their spread is mostly counting noise.
    spread = wanted.std(axis=0) if asked.there is None else np.sqrt(mean_there(wanted**2, asked.there))
    spread = np.maximum(spread, max(float(np.median(spread)), 1e-6))

    def told(values: Floats, part: Seen, rows: NDArray[np.int64] | slice = slice(None)) -> Floats:
        away = _within(values[rows], part.section[rows]) / spread
        return (away if part.there is None else away * part.there[rows]).ravel()

    near = [told(ring, asked) for ring in asked.rings]
    said, wanted = told(asked.said, asked), told(asked.measured, asked)
    ring_share = _least_squares([said, *near], wanted)[1:]
    if ring_share.max() > 0:
        members = asked.numbers.mean(axis=1)
        weight = np.where(members > 0, ring_share / np.maximum(members, 1e-6), 0.0)
        readout.ring_weight.copy_(torch.from_numpy(weight / weight.max()).float())
    mean = told(_mean(readout, asked), asked)
    said_share = _least_squares([said, mean], wanted)[0]
    single = []
    for part in seen:
        around = _mean(readout, part)
        for rows in (np.flatnonzero(part.section == one) for one in np.unique(part.section)):
            if len(rows) >= LEAST_NODES:
                own = (told(values, part, rows) for values in (part.said, around, part.measured))
                single.append(_least_squares([next(own), next(own)], next(own))[0])
    if len(single) > 1:
        said_share = max(0.0, said_share - np.std(single, ddof=1) / np.sqrt(len(np.unique(asked.section))))
    readout.said_share.fill_(float(said_share))
    readout.neighbour_share.fill_(float(_least_squares([mean], wanted - said_share * said)[0]))


def _set_levels(readout: AbstractKernelMean, seen: list[Seen]) -> None:
    """Set factor and offset of each molecule, so that mean and slope are right."""
    readout.factor.fill_(1.0)
    readout.offset.zero_()
    told = np.concatenate([mixed(readout, part) for part in seen])
    measured, there = np.concatenate([part.measured for part in seen]).astype(float), joined(seen)
    means = [mean_there(values, there) for values in (told, measured)]
    factor = _slope(told - means[0], measured - means[1], there)
    offset = means[1] - factor * means[0]
    for parameter, value in ((readout.factor, factor), (readout.offset, offset)):
        parameter.copy_(torch.from_numpy(value).float())


def _slope(x: Floats, y: Floats, there: Mask | None) -> Floats:
    """Return the slope of y on x of each molecule, shrunk towards one as far as slopes differ by chance alone.

    Where not all is `there` (node, molecule), of what is; of a molecule that no node measured it is one.

    References
    ----------
    Morris 1983, doi:10.1080/01621459.1983.10477920 (parametric empirical Bayes).
    """
    if there is not None:
        x, y = x * there, y * there
    energy = np.maximum((x**2).sum(axis=0), 1e-12)
    raw = (x * y).sum(axis=0) / energy
    noise = mean_there((y - raw * x) ** 2, there) / energy + 1e-12
    if there is not None:
        nobody = ~there.any(axis=0)
        raw, noise = np.where(nobody, 1.0, raw), np.where(nobody, np.inf, noise)
    known = np.isfinite(noise)
    surplus, weight = ((raw - 1) ** 2 / noise - 1)[known].sum(), (1 / noise).sum()
    spread = max(float(surplus / weight), 0.0) if known.any() else 0.0
    return np.asarray(1 + (raw - 1) * spread / (spread + noise))


def levelled(readout: AbstractKernelMean, part: Seen, rows: NDArray[np.int64] | slice = slice(None)) -> Tensor:
    """Return what is expected of nodes seen, in their terms (node, molecule)."""
    return readout.offset + readout.factor * torch.from_numpy(mixed(readout, part)[rows]).to(readout.factor)


def mixed(readout: AbstractKernelMean, seen: Seen) -> Floats:
    """Return what is said and the mean of neighbours by their shares (node, molecule), before levels are set."""
    return readout.said_share.item() * seen.said.astype(float) + readout.neighbour_share.item() * _mean(readout, seen)


def _mean(readout: AbstractKernelMean, seen: Seen) -> Floats:
    weight = readout.ring_weight.double().cpu().numpy()[:, None] * seen.numbers
    # A node may have neighbours in rings of no weight alone.
    return np.asarray(np.einsum("rn,rng->ng", weight / np.maximum(weight.sum(axis=0), 1e-12), seen.rings))


def _within(values: Floats, section: NDArray[np.int64]) -> Floats:
    """Return values (node, molecule) less the mean of their section."""
    _, code = np.unique(section, return_inverse=True)
    shape = (code.max(initial=-1) + 1, len(code))
    member = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))), shape)
    return np.asarray(values - (member @ values / np.bincount(code)[:, None])[code])


def _least_squares(said: list[Floats], wanted: Floats) -> Floats:
    """Return the share of each prediction, from 0 to 1."""
    from scipy.optimize import lsq_linear

    columns = np.stack(said, axis=1)
    # The normal equations have the same solution, and a few rows in place of one a node and molecule.
    root = np.linalg.cholesky(columns.T @ columns + 1e-9 * len(wanted) * np.eye(len(said))).T
    return np.asarray(lsq_linear(root, np.linalg.solve(root.T, columns.T @ wanted), bounds=(0.0, 1.0)).x)
