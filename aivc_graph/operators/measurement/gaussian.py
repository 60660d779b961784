"""Dense features (tiles, nuclei, cell shape) as a Gaussian with a learned diagonal scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.gate import Correction, Gate
from aivc_graph.operators.measurement.distribution import Normal
from aivc_graph.operators.measurement.measurement import AbstractMeasurement, MeasurementPlan
from aivc_graph.operators.measurement.told_state import no_pairs, told_state
from aivc_graph.operators.part import DECODERS, FURTHER_ENCODERS, KINDS, Device, Fitting
from aivc_graph.operators.ridge import beyond_noise, ridge
from aivc_graph.operators.state import Fold

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class FeatureInput:
    """Dense features: `standard` (node, feature) in units of their section's spread, `section` and `mask` (node,).

    A value that was not measured is the mean of its section in `standard`, and not a number in `observed`.
    """

    standard: Tensor
    observed: Tensor
    section: Tensor
    mask: Tensor


@KINDS["measurement"].register("gaussian")
class GaussianMeasurement(AbstractMeasurement):
    r"""Features of a node as :math:`x_v \sim \mathcal{N}(B z_v + \bar x,\ \mathrm{diag}(\sigma^2))`.

    Encoding standardises within the section, for scanners differ, and maps linearly,
    :math:`u_v = A\,(x_v - \bar x_{s(v)})/\sigma_{s(v)}`, plus a gated correction; with the gate shut and A fitted by
    ridge regression it is ridge from image to state. With B at zero the prediction is the feature mean. A value that
    was not measured is the section's mean to the encoding, and has no part in the likelihood.

    Shapes
    ------
    features
        (node, feature), standardised within their section
    latent
        (node, latent)
    """

    stages: ClassVar[Mapping[str, str]] = {FURTHER_ENCODERS: "fit_encoder", DECODERS: "fit_decoder"}
    rank: ClassVar[int] = 1
    loading: Tensor
    weight: Tensor
    log_scale: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        n = len(plan.names)
        self.hold("loading", torch.zeros(n, plan.latent))
        self.hold("weight", torch.zeros(n, plan.latent))
        self.hold("log_scale", torch.zeros(n))
        self.weight_change = nn.Parameter(torch.zeros(n, plan.latent))
        self.scale_change = nn.Parameter(torch.zeros(n))
        self.decoder_gate = Gate()
        self.correction = Correction(n, plan.latent)

    def prepare(self, graph: TissueGraph, device: Device) -> FeatureInput:
        """Return the features of a window."""
        level, modality = self.slot
        section, store = graph[level].section_index, graph[names.SECTION]
        mean, spread = (store[f"{level}_{modality}_{what}"][section] for what in ("mean", "spread"))
        observed = ((graph[level][modality] - mean) / spread).to(device)
        standard = torch.nan_to_num(observed, nan=0.0)
        return FeatureInput(
            standard, observed, section.to(device), graph[level][names.mask_name(modality)].float().to(device)
        )

    def observation(self, data: FeatureInput) -> Tensor:
        """Return the standardised features, not a number where one was not measured."""
        return data.observed

    def encode(self, data: FeatureInput, shown: Tensor | None = None) -> Tensor:
        """Return what the features alone say of each node (node, latent)."""
        return data.standard @ self.loading + self.correction(data.standard)

    def likelihood(self, z: Tensor, data: FeatureInput) -> Normal:
        """Return the distribution of the standardised features."""
        weight = self.weight + self.decoder_gate(self.weight_change)
        return Normal(z @ weight.t(), self.log_scale + self.decoder_gate(self.scale_change))

    def fit_encoder(self, fitting: Fitting) -> None:
        """Ridge from features to the state that counts give where both were measured, else principal components.

        Raises
        ------
        ModelError
            Logarithms of some nodes and counts of others: components of one are no state of the other.
        """
        x, group, rows = self._measured(fitting.training)
        if len(x) == 0:
            return
        target = told_state(self.plan.level, fitting, rows)
        loading: Floats = np.zeros(tuple(self.loading.shape))
        first = fitting.model.state_maker(self.plan.level)
        if target is None and first is not None and self.plan.modality == names.LOG_EXPRESSION:
            raise no_pairs(self.slot, first.plan.modality)
        if target is None:
            _, _, v = np.linalg.svd(x, full_matrices=False)
            loading[:, : len(v)] = v[: loading.shape[1]].T
        else:
            z, measured, noise = target
            pairs = x[measured]
            loading = ridge(pairs, z[measured], group[measured])
            error = beyond_noise(((z[measured] - pairs @ loading) ** 2).mean(axis=0), noise)
            self.log_precision.copy_(torch.from_numpy(-np.log(error)).float())
        self.loading.copy_(torch.from_numpy(loading).float())

    def fit_decoder(self, fitting: Fitting) -> None:
        """Ridge from the state, as counts give it or else the features, to the features; and what is left."""
        x, group, rows = self._measured(fitting.training)
        if len(x) == 0:
            return
        z = x @ self.loading.double().cpu().numpy()
        if (target := told_state(self.plan.level, fitting, rows)) is not None:
            z = np.where(target[1][:, None], target[0], z)
        weight = ridge(z, x, group)
        self.weight.copy_(torch.from_numpy(weight.T).float())
        self.log_scale.copy_(torch.from_numpy(np.log(np.maximum((x - z @ weight).std(axis=0), 1e-3))).float())

    def _measured(self, folds: list[Fold]) -> tuple[Floats, NDArray[np.int64], list[NDArray[np.int64]]]:
        """Return features and section of the nodes fitted on, and which rows of each fold they are."""
        standard, group, rows = [np.zeros((0, len(self.plan.names)))], [np.zeros(0, np.int64)], []
        for fold in folds:
            data = fold.inputs.measured(*self.slot)
            rows.append(fold.training(self.plan.level, data.mask))
            standard.append(data.standard.cpu().numpy()[rows[-1]])
            group.append(data.section.cpu().numpy()[rows[-1]])
        return np.concatenate(standard[1:] or standard), np.concatenate(group), rows
