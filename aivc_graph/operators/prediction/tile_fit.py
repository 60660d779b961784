"""Closed form of expression from tiles: how far it follows their features, and how far the state.

Maps from features are fitted on training nodes; the shares of state and direct look on held-out nodes, since on
training nodes both have seen what they are to predict; then offsets and maps are fitted again on all, as a few held-out
donors would set the level of every other by their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.counts import log_shares
from aivc_graph.operators.feature_map import own_and_around
from aivc_graph.operators.measured import mean_there
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Fold, Hidden

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.tile import TilePrediction

Floats = NDArray[np.floating]
STRETCHES = 5


@dataclass(frozen=True)
class Seen:
    """What the state says, what the direct look says and what was measured, all log1p scaled (node, reached).

    And the `section` of each node (node,); `there` (node, reached), what was measured, None where all was.
    """

    state: Floats
    look: Floats
    measured: Floats
    section: NDArray[np.int64]
    there: NDArray[np.bool_] | None = None


def fit_map(part: TilePrediction, fitting: Fitting, folds: list[Fold]) -> None:
    """From features to scaled counts, both centred within their section; of sections that measured them.

    What is left out of it in turn is what the split leaves out: donors, or stretches of the tissue of those trained on.
    """
    xs, ys, groups, there = [], [], [], []
    for fold in folds:
        counted = fold.inputs.measured(*part.target)
        features, mask = own_and_around(fold.inputs, part.plan.level, [part.plan.features])
        rows = fold.training(part.plan.level, counted.mask * mask)
        section = counted.section.cpu().numpy()[rows]
        xs.append(features.cpu().numpy()[rows])
        scaled = to_scipy_csr(counted.scaled.forward_csr.cpu())[rows].toarray()
        ys.append(scaled - counted.section_mean.cpu().numpy()[section])
        groups.append(section)
        there.append(counted.panels.cpu().numpy()[counted.panel_of.cpu().numpy()[section]] > 0)
    x, y, group, measured = (np.concatenate(pieces) for pieces in (xs, ys, groups, there))
    unseen = (fitting.new_donor >= 0).any()
    apart = fitting.donor[group] if unseen else np.arange(len(x)) * STRETCHES // max(len(x), 1)  # rows go by region
    part.map.fit(x.astype(float), y.astype(float), group, apart, measured)


def seen(part: TilePrediction, fitting: Fitting, folds: list[Fold]) -> Seen | None:
    """Return the measured nodes of `folds` that have a direct look; None if too few."""
    states, directs, targets, sections, theres = [], [], [], [], []
    measurement = fitting.model.part("measurement", *part.target)
    for fold in folds:
        counted = fold.inputs.measured(*part.target)
        direct, reached = part.look(fold.inputs)
        rows = fold.training(part.target[0], counted.mask * reached)
        hidden = Hidden(nodes={part.target: torch.ones_like(counted.mask)})
        z = fitting.model(fold.inputs, hidden).z[part.target[0]]
        decoded = measurement.likelihood(z, counted).shares()
        states.append(log_shares(decoded, part.depth).cpu().numpy()[rows])
        directs.append(direct.cpu().numpy()[rows])
        shared = to_scipy_csr(counted.counts.cpu())[rows]
        section = counted.section[rows]
        share, there = 1.0, None
        if counted.there is not None:
            there = counted.there[section].cpu().numpy()
            own = decoded[rows].cpu().numpy()
            share = (own * there).sum(axis=1) / np.maximum(own.sum(axis=1), 1e-12)
        targets.append(scale_counts(shared, part.depth * share).toarray())
        sections.append(section.cpu().numpy())
        theres.append(np.ones(targets[-1].shape, bool) if there is None else there)
    if sum(len(t) for t in targets) < 10:
        return None
    state, said, target = (np.concatenate(parts).astype(float) for parts in (states, directs, targets))
    measured = np.concatenate(theres)
    return Seen(state, said, target, np.concatenate(sections), None if measured.all() else measured)


def mean_measured(folds: list[Fold], key: tuple[str, str], depth: float) -> Floats:
    """Return the mean log count of every molecule over all counted nodes, those without a look as well (molecule,).

    Slides are few donors more often than counts are, and features are standardised in each: they know no level.
    """
    total, number = np.zeros(1), np.zeros(1)
    for fold in folds:
        counted = fold.inputs.measured(*key)
        rows = fold.training(key[0], counted.mask)
        section = counted.section.cpu().numpy()[rows]
        there = counted.panels.cpu().numpy()[counted.panel_of.cpu().numpy()[section]]
        own = depth if counted.there is None else depth * counted.covered.cpu().numpy()[section]
        scaled = scale_counts(to_scipy_csr(counted.counts.cpu())[rows], own)
        total, number = total + np.asarray(scaled.sum(axis=0)).ravel(), number + there.sum(axis=0)
    return np.asarray(total / np.maximum(number, 1))


def set_shares(readout: TilePrediction, seen: Seen | None, *, state: bool) -> None:
    """Regress measured on predicted log expression: a share of 0 to 1 each; else the look alone.

    Unbounded, a state that hardly varies would be blown up to the size of what it happens to go along with.
    """
    from scipy.optimize import lsq_linear

    state_share, direct_share = 0.0, 1.0
    if state and seen is not None:
        # Molecules count alike, but for those that hardly vary: their spread is mostly counting noise.
        parts = [part - mean_there(part, seen.there) for part in (seen.state, seen.look, seen.measured)]
        if seen.there is None:
            spread = seen.measured.std(axis=0)
        else:
            parts = [part * seen.there for part in parts]
            spread = np.sqrt(mean_there(parts[2] ** 2, seen.there))
        spread = np.maximum(spread, max(float(np.median(spread)), 1e-6))
        said, looked, wanted = ((part / spread).ravel() for part in parts)
        state_share, direct_share = lsq_linear(np.column_stack([said, looked]), wanted, bounds=(0.0, 1.0)).x
    readout.state_share.fill_(float(state_share))
    readout.direct_share.fill_(float(direct_share))


def set_offset(readout: TilePrediction, seen: Seen | None, level: Floats) -> None:
    """Set what is added to each molecule, so that its mean over the nodes seen is the `level`."""
    if seen is None:
        return
    state, look = readout.state_share.item(), readout.direct_share.item()
    offset = level - state * mean_there(seen.state, seen.there) - look * mean_there(seen.look, seen.there)
    readout.offset.copy_(torch.from_numpy(offset).float())
