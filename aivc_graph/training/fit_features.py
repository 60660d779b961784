"""Closed form of dense features: ridge to the state that counts give."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training.fit_counts import encode
from aivc_graph.training.fit_further_counts import first_modality
from aivc_graph.training.folds import Fold
from aivc_graph.training.ridge import ridge

Floats = NDArray[np.floating]


def fit_features(model: TissueModel, folds: list[Fold], key: tuple[str, str], noise: Floats | None) -> None:
    """Ridge from features to the state that counts give where both were measured; principal components elsewhere."""
    operator = model.feature_operator(*key)
    standard, group, rows = [], [], []
    for fold in folds:
        data, section = fold.inputs.features[key], fold.inputs.section[key[0]]
        chosen = fold.training(key[0], data.mask)
        scaled = operator.standardise(data.features, data.section_mean, data.section_spread, section)
        standard.append(scaled.cpu().numpy()[chosen])
        group.append(section.cpu().numpy()[chosen])
        rows.append(chosen)
    x = np.concatenate(standard)
    if len(x) == 0:
        return
    target = _own_state(model, folds, key[0], rows)
    if target is None:
        _, _, v = np.linalg.svd(x, full_matrices=False)
        loading: Floats = np.zeros((x.shape[1], operator.loading.shape[1]))
        loading[:, : len(v)] = v[: loading.shape[1]].T
        z: Floats = x @ loading
    else:
        z, measured = target
        pairs, groups = x[measured], np.concatenate(group)[measured]
        loading = ridge(pairs, z[measured], groups)
        residual = ((z[measured] - pairs @ loading) ** 2).mean(axis=0)
        error = np.maximum(residual - (noise if noise is not None else 0.0), 0.05 * residual + 1e-6)
        model.log_precision[f"{key[0]}_{key[1]}"].copy_(torch.from_numpy(-np.log(error)).float())
        z = np.where(measured[:, None], z, x @ loading)
    operator.loading.copy_(torch.from_numpy(loading).float())
    weight = ridge(z, x, np.concatenate(group))
    operator.weight.copy_(torch.from_numpy(weight.T).float())
    operator.log_scale.copy_(torch.from_numpy(np.log(np.maximum((x - z @ weight).std(axis=0), 1e-3))).float())


def _own_state(
    model: TissueModel, folds: list[Fold], level: str, rows: list[NDArray[np.int64]]
) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Return what counts alone say of `rows` (row, latent) and who was counted, or None where nobody was.

    Where a level has no counts, as windows over cells have none, it is what those of its children say on average.
    """
    children = [child for child, parent in model.plan.withins if parent == level and child in model.plan.counts]
    counted = [v for v in (level, *children) if v in model.plan.counts][:1]
    states, seen = [], []
    for fold, chosen in zip(folds, rows, strict=True):
        if not counted or counted[0] not in fold.rows:
            return None
        key = (counted[0], first_modality(folds, counted[0]))
        data = fold.inputs.counts[key]
        state, mask = encode(model.count_operator(*key), data, fold.inputs.section[key[0]]), data.mask
        if key[0] != level:
            overlap = fold.inputs.lift[key[0], level]
            share = overlap @ mask[:, None]
            state, mask = overlap @ (state * mask[:, None]) / share.clamp_min(1e-6), (share.ravel() > 0.99).float()
        states.append(state.cpu().numpy()[chosen])
        seen.append(mask.cpu().numpy()[chosen] > 0)
    measured = np.concatenate(seen)
    return (np.concatenate(states), measured) if measured.sum() > 10 else None
