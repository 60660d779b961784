"""Mean intensities of markers: arcsinh, a section's place and scale, and a normal or Student-t around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.gate import Correction, Gate
from aivc_graph.operators.intensities import IntensityInput, prepare_intensities
from aivc_graph.operators.measurement import intensity_fit
from aivc_graph.operators.measurement.distribution import AbstractDistribution, Normal, StudentT
from aivc_graph.operators.measurement.factor_model import reading_of
from aivc_graph.operators.measurement.measurement import AbstractMeasurement, MeasurementPlan
from aivc_graph.operators.part import DECODERS, ENCODERS, FURTHER_ENCODERS, KINDS, Device, Fitting
from aivc_graph.settings import Settings


class IntensityOptions(Settings):
    """How intensities scatter.

    Parameters
    ----------
    noise
        ``normal``, ``student_t``, or of these the better on held-out tissue (``auto``); normal where a tenth of the
        intensities is zero, for densities cannot judge tails at a value that many cells share.
    """

    noise: Literal["auto", "normal", "student_t"] = "auto"


@KINDS["measurement"].register("intensity", modalities=(names.INTENSITY,))
class IntensityMeasurement(AbstractMeasurement):
    r"""Mean intensities of a node's markers, after arcsinh with a cofactor each, standardised within the section.

    .. math:: x_{vg} = \frac{\operatorname{arcsinh}(y_{vg} / c_g) - m_{s(v)g}}{\sigma_{s(v)g}}, \qquad
              x_{vg} \sim \mathcal{N}\ \text{or}\ t_{\nu_g}\,(z_v \cdot w_g,\ \tau_g)

    Encoding projects on principal components, :math:`u_v = x_v E`, plus a gated correction; hidden markers are made up
    for by the factor model that goes with them. Where counts make the state, E is ridge regression into it. With
    ``weight`` at zero the prediction is the section's mean profile; it is fitted to what was hidden, scaled by what
    held-out tissue supports, and changed by gradient behind a gate. Invariant to the order of markers and nodes, and to
    the unit of the intensities.

    Shapes
    ------
    intensities
        (node, marker), in the file's units
    latent
        (node, latent)

    References
    ----------
    Bendall et al. 2011, doi:10.1126/science.1198704 (arcsinh of mass cytometry); Tipping & Bishop 1999,
    doi:10.1111/1467-9868.00196; Lange, Little & Taylor 1989, doi:10.1080/01621459.1989.10478852 (Student-t).
    """

    Options = IntensityOptions
    stages: ClassVar[Mapping[str, str]] = {
        ENCODERS: "fit_encoder",
        FURTHER_ENCODERS: "fit_further_encoder",
        DECODERS: "fit_decoder",
    }
    hides_features: ClassVar[bool] = True
    makes_state: ClassVar[int | None] = 1
    loading: Tensor
    weight: Tensor
    log_scale: Tensor
    freedom: Tensor
    variance: Tensor
    own_variance: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        n = len(plan.names)
        self.noise = IntensityOptions.model_validate(plan.options).noise
        self.hold("loading", torch.zeros(n, plan.latent))
        self.hold("weight", torch.zeros(n, plan.latent))
        self.hold("log_scale", torch.zeros(n))
        # Degrees of freedom; of a normal distribution they have no end.
        self.hold("freedom", torch.full((n,), torch.inf))
        if plan.first:
            self.hold("variance", torch.ones(plan.latent))
            self.hold("own_variance", torch.ones(n))
        self.weight_change = nn.Parameter(torch.zeros(n, plan.latent))
        self.scale_change = nn.Parameter(torch.zeros(n))
        self.decoder_gate = Gate()
        self.correction = Correction(plan.latent, plan.latent)

    def prepare(self, graph: TissueGraph, device: Device) -> IntensityInput:
        """Return the intensities of a window."""
        return prepare_intensities(graph, *self.key, device)

    def observation(self, data: IntensityInput) -> Tensor:
        """Return the standardised arcsinh, not a number where one was not measured."""
        return data.observed

    def encode(self, data: IntensityInput, shown: Tensor | None = None) -> Tensor:
        """Return what the markers alone say of each node (node, latent); for hidden ones the others speak."""
        linear = data.standard @ self.reading(shown)[0]
        return linear + self.correction(linear)

    def precision(self, data: IntensityInput, shown: Tensor | None = None) -> Tensor:
        """Return how surely `encode` tells the state (latent,): less where markers are hidden."""
        full = self.log_precision.exp()
        return full / (1 + full * self.reading(shown)[1])

    def reading(self, shown: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loading (marker, latent) that reads the state off markers `shown`, and its error (latent,)."""
        if shown is not None and self.plan.first:
            return reading_of(self.loading, self.variance, self.own_variance, shown)
        nothing = torch.zeros_like(self.log_precision)
        if shown is None:
            return self.loading, nothing
        return self.loading * (shown / shown.mean().clamp_min(1e-6))[:, None], nothing

    def parted(
        self, data: IntensityInput, training: Tensor, share: float, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what a share of the markers, drawn at random, and the other markers say of each node."""
        n = len(self.plan.names)
        shown = np.zeros(n, np.float32)
        shown[generator.permutation(n)[: int(np.clip(round(share * n), 1, n - 1))]] = 1.0
        kept = torch.from_numpy(shown).to(data.standard)
        return self.encode(data, kept), self.encode(data, 1 - kept)

    def decoder(self) -> Tensor:
        """Return the weights of the decoder (marker, latent)."""
        return self.weight + self.decoder_gate(self.weight_change)

    def scale(self) -> Tensor:
        """Return the log scale of each marker around what is expected (marker,), in units of the section's spread."""
        return self.log_scale + self.decoder_gate(self.scale_change)

    def likelihood(self, z: Tensor, data: IntensityInput) -> AbstractDistribution:
        """Return the distribution of the standardised arcsinh."""
        location = z @ self.decoder().t()
        if bool(torch.isfinite(self.freedom).all()):
            return StudentT(location, self.scale(), self.freedom)
        return Normal(location, self.scale())

    def expected(self, z: Tensor, data: IntensityInput) -> tuple[Tensor, Tensor]:
        """Return expected intensities in the file's units, and their arcsinh (node, marker)."""
        terms = data.terms(self.likelihood(z, data).mean())
        return torch.sinh(terms) * data.cofactor, terms

    def fit_encoder(self, fitting: Fitting) -> None:
        """Fit the scatter around the mean profile; of markers that make the state, components and their noise."""
        intensity_fit.fit_scatter(self, fitting)
        if self.plan.first:
            intensity_fit.fit_components(self, fitting)

    def fit_further_encoder(self, fitting: Fitting) -> None:
        """Lead markers into the state that counts of the same nodes give."""
        if not self.plan.first:
            intensity_fit.fit_into_first(self, fitting)

    def fit_decoder(self, fitting: Fitting) -> None:
        """Fit the decoder to hidden markers, then its scale and the scatter around it on held-out tissue."""
        intensity_fit.fit_decoder(self, fitting)
