"""Closed form of direct readouts: how far expression follows the cells beneath or the tile, and how far the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor

from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.model.inputs import Inputs
from aivc_graph.model.tissue_model import Hidden, TissueModel
from aivc_graph.operators.measurement.direct_readout import DirectReadout, log_shares
from aivc_graph.training.folds import Fold
from aivc_graph.training.ridge import ridge

# Returns the direct look (node, reached), the columns it reaches, and who has one (node,).
Look = Callable[[Inputs], tuple[Tensor, Tensor, Tensor]]
Floats = NDArray[np.floating]
# Donors never trained on whose tiles must be held out for the state to have a say beside ridge.
LEAST_DONORS = 2


@dataclass(frozen=True)
class Seen:
    """What the state says, what the direct look says and what was measured, all log1p scaled (node, reached).

    And the `section` of each node (node,).
    """

    state: Floats
    look: Floats
    measured: Floats
    section: NDArray[np.int64]


@torch.no_grad()
def fit_readouts(model: TissueModel, training: list[Fold], held_out: list[Fold], new_donor: NDArray[np.int64]) -> None:
    """Fit every direct readout of the model.

    Ridge maps are fitted on training nodes; the shares of state and direct look on `held_out` nodes, since on training
    nodes both have seen what they are to predict; then offsets and maps are fitted again on all, as a few held-out
    donors would set the level of every other by their own. What a tile's state adds to ridge is let in only if tiles of
    two donors never trained on were held out: within a donor it always looks well, one donor more is one scanner and
    one stain, and neither need travel.

    Parameters
    ----------
    new_donor
        Code of the donor of each section, -1 for one that was trained on (section,).
    """
    everyone = training if held_out is training else [*training, *held_out]
    for pool in model.plan.pools:
        key, look = (pool[1], pool[2]), partial(model.pooled, key=pool)
        _set_shares(model.readout(pool), _seen(model, held_out, key, look), state=True)
        _set_offset(model.readout(pool), _seen(model, everyone, key, look))
    for tile in model.plan.tiles:
        _fit_map(model, training, tile)
        key, look = (tile[0], tile[2]), partial(model.tile_look, key=tile)
        seen = _seen(model, held_out, key, look)
        travels = seen is not None and len(set(new_donor[seen.section]) - {-1}) >= LEAST_DONORS
        _set_shares(model.readout(tile), seen, state=travels)
        _fit_map(model, everyone, tile)
        _set_offset(model.readout(tile), _seen(model, everyone, key, look), _mean_measured(model, everyone, key))


def _fit_map(model: TissueModel, folds: list[Fold], tile: tuple[str, str, str]) -> None:
    """Ridge from features to scaled counts, both centred within their section."""
    level, feature, modality = tile
    xs, ys, groups = [], [], []
    for fold in folds:
        counted, data = fold.inputs.counts[level, modality], fold.inputs.features[level, feature]
        rows, section = fold.training(level, counted.mask * data.mask), fold.inputs.section[level]
        standard = model.standard_features(fold.inputs, (level, feature))
        scaled = to_scipy_csr(counted.scaled.forward_csr.cpu())[rows].toarray()
        xs.append(standard.cpu().numpy()[rows])
        ys.append(scaled - counted.section_mean.cpu().numpy()[section.cpu().numpy()[rows]])
        groups.append(section.cpu().numpy()[rows])
    x = np.concatenate(xs)
    if len(x) > 10:
        coefficients = ridge(x, np.concatenate(ys), np.concatenate(groups))
        model.tile_maps["_".join(tile)].copy_(torch.from_numpy(coefficients).float())


def _seen(model: TissueModel, folds: list[Fold], key: tuple[str, str], look: Look) -> Seen | None:
    """Return the measured nodes of `folds` that have a direct look; None if too few."""
    states, directs, targets, sections = [], [], [], []
    for fold in folds:
        if key not in fold.inputs.counts:
            continue
        counted = fold.inputs.counts[key]
        direct, columns, reached = look(fold.inputs)
        rows = fold.training(key[0], counted.mask * reached)
        hidden = Hidden(nodes={key: torch.ones_like(counted.mask)})
        decoded = model.decoded(model(fold.inputs, hidden), fold.inputs, *key)
        depth = float(model.count_operator(*key).target_depth)
        states.append(log_shares(decoded[:, columns], depth).cpu().numpy()[rows])
        directs.append(direct.cpu().numpy()[rows])
        shared = to_scipy_csr(counted.counts.cpu())[rows][:, columns.cpu().numpy()]
        targets.append(scale_counts(shared, depth).toarray())
        sections.append(fold.inputs.section[key[0]].cpu().numpy()[rows])
    if sum(len(t) for t in targets) < 10:
        return None
    state, said, target = (np.concatenate(parts).astype(float) for parts in (states, directs, targets))
    return Seen(state, said, target, np.concatenate(sections))


def _mean_measured(model: TissueModel, folds: list[Fold], key: tuple[str, str]) -> Floats:
    """Return the mean log count of every molecule over all counted nodes, those without a look as well (molecule,).

    Slides are few donors more often than counts are, and features are standardised in each: they know no level.
    """
    depth, total, number = float(model.count_operator(*key).target_depth), np.zeros(1), 0
    for fold in folds:
        if key in fold.inputs.counts:
            counted = fold.inputs.counts[key]
            rows = fold.training(key[0], counted.mask)
            total = (
                total + np.asarray(scale_counts(to_scipy_csr(counted.counts.cpu())[rows], depth).sum(axis=0)).ravel()
            )
            number += len(rows)
    return total / max(number, 1)


def _set_shares(readout: DirectReadout, seen: Seen | None, *, state: bool) -> None:
    """Regress measured on predicted log expression: a share of 0 to 1 each; else the look alone.

    Unbounded, a state that hardly varies would be blown up to the size of what it happens to go along with.
    """
    state_share, direct_share = 0.0, 1.0
    if state and seen is not None:
        # Molecules count alike, but for those that hardly vary: their spread is mostly counting noise.
        spread = seen.measured.std(axis=0)
        spread = np.maximum(spread, max(float(np.median(spread)), 1e-6))
        parts = (seen.state, seen.look, seen.measured)
        said, looked, wanted = (((part - part.mean(axis=0)) / spread).ravel() for part in parts)
        state_share, direct_share = lsq_linear(np.column_stack([said, looked]), wanted, bounds=(0.0, 1.0)).x
    readout.state_share.fill_(float(state_share))
    readout.direct_share.fill_(float(direct_share))


def _set_offset(readout: DirectReadout, seen: Seen | None, level: Floats | None = None) -> None:
    """Set what is added to each molecule, so that its mean is the `level`, that of the nodes seen if not given."""
    if seen is None:
        return
    state, look = readout.state_share.item(), readout.direct_share.item()
    wanted = seen.measured.mean(axis=0) if level is None else level
    offset = wanted - state * seen.state.mean(axis=0) - look * seen.look.mean(axis=0)
    readout.offset.copy_(torch.from_numpy(offset).float())
