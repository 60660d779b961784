"""Closed form of a level's second and further count modalities: ridge to the state that its first one gives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training.fit_counts import encode
from aivc_graph.training.folds import Fold, count_keys
from aivc_graph.training.ridge import ridge

Floats = NDArray[np.floating]
LEAST_PAIRS = 10


def first_modality(folds: list[Fold], level: str) -> str:
    """Return the count modality whose principal components the level's state is made of: RNA before the others."""
    found = {modality for v, modality in count_keys(folds) if v == level}
    return next(modality for modality in names.MOLECULE_OF if modality in found)


def fit_further_counts(model: TissueModel, folds: list[Fold], key: tuple[str, str], noise: Floats) -> Floats:
    """Set loadings of `key` that lead into the state of the first modality; return their error (latent,).

    Principal components of two modalities are axes that have nothing to do with each other, so only nodes that both
    have measured can say what one means in terms of the other.

    Parameters
    ----------
    noise
        Counting noise of the first modality's state (latent,), which is no error of this one.

    Raises
    ------
    ModelError
        Hardly any training node has both.
    """
    level, modality = key
    first = first_modality(folds, level)
    x, z, group = [], [], []
    for fold in folds:
        other, data, section = fold.inputs.counts[level, first], fold.inputs.counts[key], fold.inputs.section[level]
        rows = fold.training(level, data.mask * other.mask)
        own = section.cpu().numpy()[rows]
        x.append(to_scipy_csr(data.scaled.forward_csr.cpu())[rows].toarray() - data.section_mean.cpu().numpy()[own])
        z.append(encode(model.count_operator(level, first), other, section).cpu().numpy()[rows])
        group.append(own)
    pairs, state = np.concatenate(x), np.concatenate(z)
    if len(pairs) < LEAST_PAIRS:
        raise ModelError(
            f"{level} · {modality}",
            f"{len(pairs)} training nodes with both {first} and {modality}",
            f"at least {LEAST_PAIRS}: nothing else says what one means in terms of the other",
            f"add a section with both, or leave the {modality} out",
        )
    loading = ridge(pairs, state, np.concatenate(group))
    residual = ((state - pairs @ loading) ** 2).mean(axis=0)
    model.count_operator(*key).loading.copy_(torch.from_numpy(loading).float())
    return np.maximum(residual - noise, 0.05 * residual + 1e-6)
