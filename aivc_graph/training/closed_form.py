"""The baseline part of the model, fitted in closed form on training nodes before anything is learned by gradient."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training.fit_counts import fit_decoder, fit_encoder, thinning_noise
from aivc_graph.training.fit_features import fit_features
from aivc_graph.training.fit_further_counts import first_modality, fit_further_counts
from aivc_graph.training.fit_messages import fit_lateral, fit_lift
from aivc_graph.training.folds import Fold, count_keys, feature_keys

Floats = NDArray[np.floating]


@torch.no_grad()
def fit_closed_form(model: TissueModel, folds: list[Fold], seed: int) -> dict[str, float]:
    """Fit loadings, profiles, dispersions, ring weights, own shares, expert precisions and lift maps.

    Returns label-free diagnostics: for each level with counts and neighbours the leave-one-out error of the
    neighbourhood (``loo``), and the errors of a node's own thinned counts (``thinning_own``) and of own and context
    mixed (``thinning_mixed``), all as a share of the variance.
    """
    generator = np.random.default_rng(seed)
    noise: dict[str, Floats] = {}
    diagnostics: dict[str, float] = {}
    for level, modality in count_keys(folds):
        operator = model.count_operator(level, modality)
        fit_encoder(operator, folds, (level, modality))
        if modality == first_modality(folds, level):
            noise[level] = thinning_noise(operator, folds, (level, modality), generator)
            model.log_precision[f"{level}_{modality}"].copy_(torch.from_numpy(-np.log(noise[level])).float())
    for level, modality in count_keys(folds):
        if modality != first_modality(folds, level):
            error = fit_further_counts(model, folds, (level, modality), noise[level])
            model.log_precision[f"{level}_{modality}"].copy_(torch.from_numpy(-np.log(error)).float())
    for level, modality in feature_keys(folds):
        fit_features(model, folds, (level, modality), noise.get(level))
    for level in model.plan.laterals:
        diagnostics |= fit_lateral(model, folds, level, generator)
    for child, parent in model.plan.withins:
        fit_lift(model, folds, child, parent)
    for level, modality in count_keys(folds):
        fit_decoder(model, folds, (level, modality))
    return diagnostics
