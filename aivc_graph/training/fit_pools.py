"""Closed form of the pool: how much a spot's counts follow the cells beneath, and how much its state."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls

from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.model.tissue_model import Hidden, TissueModel
from aivc_graph.training.folds import Fold


@torch.no_grad()
def fit_pool(model: TissueModel, folds: list[Fold], key: tuple[str, str, str]) -> None:
    """Regress measured log expression of held-out parents on what pool and state say when it is hidden.

    `folds` should name validation nodes: on training nodes the state has seen what it is to predict, and would win.

    One share of each for all molecules, by least squares with shares ≥ 0 over values centred molecule by molecule; the
    offset of each molecule takes up how differently the two assays see it.
    """
    _, parent, modality = key
    operator = model.pool_operator(*key)
    states, pools, targets = [], [], []
    for fold in folds:
        if key not in fold.inputs.pools:
            continue
        data, counted = fold.inputs.pools[key], fold.inputs.counts[parent, modality]
        rows = fold.training(parent, counted.mask * data.covered)
        hidden = Hidden(nodes={(parent, modality): torch.ones_like(counted.mask)})
        decoded = model.decoded(model(fold.inputs, hidden), fold.inputs, parent, modality)
        said = operator.views(decoded, data.pooled, data.columns, data.depth)
        states.append(said[0].cpu().numpy()[rows])
        pools.append(said[1].cpu().numpy()[rows])
        shared = to_scipy_csr(counted.counts.cpu())[rows][:, data.columns.cpu().numpy()]
        targets.append(scale_counts(shared, data.depth).toarray())
    if sum(len(t) for t in targets) < 10:
        return
    state, pool, target = (np.concatenate(parts).astype(float) for parts in (states, pools, targets))
    centred = np.column_stack([(state - state.mean(axis=0)).ravel(), (pool - pool.mean(axis=0)).ravel()])
    (state_share, pool_share), _ = nnls(centred, (target - target.mean(axis=0)).ravel())
    operator.state_share.fill_(float(state_share))
    operator.pool_share.fill_(float(pool_share))
    offset = target.mean(axis=0) - state_share * state.mean(axis=0) - pool_share * pool.mean(axis=0)
    operator.offset.copy_(torch.from_numpy(offset).float())
