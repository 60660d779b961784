"""Closed forms of messages: the lateral kernel by leave-one-out, the own share by thinning, the lift by ridge."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from aivc_graph.model.tissue_model import Hidden, TissueModel
from aivc_graph.operators.lateral.ring_mean import ring_means
from aivc_graph.training.fit_counts import thin
from aivc_graph.training.fit_further_counts import first_modality
from aivc_graph.training.folds import Fold, count_keys
from aivc_graph.training.ridge import ridge

THINNED_SHARE = 0.8
Floats = NDArray[np.floating]


def fit_lateral(model: TissueModel, folds: list[Fold], level: str, generator: np.random.Generator) -> dict[str, float]:
    """Ring weights by leave-one-out, own share by thinning; both by least squares over training nodes."""
    operator = model.first_block.lateral_of(level)
    own, means = [], []
    for fold in folds:
        state = model.encode(fold.inputs, Hidden())
        rows = torch.nonzero(fold.rows[level] * state.own[level]).ravel()
        own.append(state.z[level][rows])
        near, _ = ring_means(state.z[level], state.known[level], fold.inputs.rings[level])
        means.append(torch.stack(near)[:, rows])
    z, rings = torch.cat(own).double().cpu().numpy(), torch.cat(means, dim=1).double().cpu().numpy()
    if len(z) < 2:
        return {}
    weights, residual = nnls(rings.reshape(len(rings), -1).T, z.ravel())
    if weights.sum() > 0:
        operator.ring_weight.copy_(torch.from_numpy(weights[:, None]).float())
    found = {f"{level}.loo": float(residual**2 / max((z**2).sum(), 1e-12))}
    if not any(v == level for v, _ in count_keys(folds)):
        return found
    return found | _fit_share(model, folds, (level, first_modality(folds, level)), generator)


def _fit_share(
    model: TissueModel, folds: list[Fold], key: tuple[str, str], generator: np.random.Generator
) -> dict[str, float]:
    level = key[0]
    lateral, operator = model.first_block.lateral_of(level), model.count_operator(*key)
    parts: list[tuple[Floats, Floats, Floats]] = []
    for share in (THINNED_SHARE, 0.5):
        own, context, target = [], [], []
        for fold in folds:
            data, section = fold.inputs.counts[key], fold.inputs.section[level]
            training = fold.inputs.in_training(level)
            kept, rest = thin(data, training, float(operator.target_depth), share, generator)
            rows = fold.training(level, data.mask)
            state = operator.encode(kept.scaled, kept.section_mean, section)
            near, _ = lateral.context(state, data.mask, fold.inputs.rings[level])
            context.append(near.cpu().numpy()[rows])
            own.append(state.cpu().numpy()[rows])
            target.append(operator.encode(rest.scaled, rest.section_mean, section).cpu().numpy()[rows])
        parts.append((np.concatenate(own), np.concatenate(context), np.concatenate(target)))
    own_part, context_part, target_part = parts[0]
    shares = np.zeros(own_part.shape[1])
    for j in range(len(shares)):
        weights, _ = nnls(
            np.column_stack([own_part[:, j], context_part[:, j]]).astype(float), target_part[:, j].astype(float)
        )
        shares[j] = weights[1] / weights.sum() if weights.sum() > 0 else 0.0
    lateral.share.copy_(torch.from_numpy(shares).float())
    own_half, context_half, target_half = parts[1]
    mixed = own_half + shares * (context_half - own_half)
    return {
        f"{level}.thinning_own": _scaled_error(own_half, target_half),
        f"{level}.thinning_mixed": _scaled_error(mixed, target_half),
    }


def _scaled_error(prediction: Floats, target: Floats) -> float:
    """Return the squared error of the best multiple of `prediction` as a share of the target's."""
    scale = (prediction * target).sum() / max((prediction**2).sum(), 1e-12)
    return float(((target - scale * prediction) ** 2).sum() / max((target**2).sum(), 1e-12))


def fit_lift(model: TissueModel, folds: list[Fold], child: str, parent: str) -> None:
    """Ridge from pooled children to the parent's own state, where both were measured; the identity elsewhere."""
    operator = model.first_block.lift_of(child, parent)
    pooled, own, group = [], [], []
    for fold in folds:
        state = model.encode(fold.inputs, Hidden())
        overlap = fold.inputs.lift[child, parent]
        both = fold.rows[parent] * state.own[parent] * ((overlap @ state.own[child][:, None]).ravel() > 0.99)
        rows = torch.nonzero(both).ravel()
        pooled.append((overlap @ state.z[child])[rows].cpu().numpy())
        own.append(state.z[parent][rows].cpu().numpy())
        group.append(fold.inputs.section[parent][rows].cpu().numpy())
    x = np.concatenate(pooled)
    if len(x) > 5 * x.shape[1]:
        operator.map.copy_(torch.from_numpy(ridge(x, np.concatenate(own), np.concatenate(group))).float())
