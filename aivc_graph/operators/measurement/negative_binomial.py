"""RNA and other counts: a linear lift from molecules to a node, and a negative binomial back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.counts import CountInput, prepare_counts, thinned
from aivc_graph.operators.gate import Correction, Gate
from aivc_graph.operators.measurement import count_fit, decoder_fit
from aivc_graph.operators.measurement.distribution import AbstractCounts, NegativeBinomial
from aivc_graph.operators.measurement.factor_model import reading_of
from aivc_graph.operators.measurement.measurement import AbstractMeasurement, MeasurementPlan
from aivc_graph.operators.part import DECODERS, ENCODERS, FURTHER_ENCODERS, KINDS, Device, Fitting


@KINDS["measurement"].register("negative_binomial")
class NegativeBinomialMeasurement(AbstractMeasurement):
    r"""Counts of molecules as a negative binomial around a log-linear profile.

    Encoding lifts molecules to their node, :math:`u_v = (x_v - \bar x_{s(v)})\,E` with
    :math:`x = \log(1 + c\,y/\ell)` and :math:`\bar x_s` the mean over the node's section, plus a gated correction.
    Decoding is

    .. math:: y_{vg} \sim \mathrm{NB}(\ell_v\,\mathrm{softmax}_g(z_v \cdot w_g + b_{sg}),\ \theta_g)

    With ``weight`` at zero the prediction is the mean profile of the section; it is fitted by maximum likelihood of
    what was hidden, scaled by what held-out tissue supports, and changed by gradient behind a gate. With the encoder's
    gate shut the encoding is a principal component projection. Invariant to the order of molecules and nodes.

    Shapes
    ------
    counts
        sparse CSR (node, molecule)
    latent
        (node, latent)

    References
    ----------
    Lopez et al. 2018, doi:10.1038/s41592-018-0229-2 (negative binomial of counts given a latent state).
    """

    stages: ClassVar[Mapping[str, str]] = {
        ENCODERS: "fit_encoder",
        FURTHER_ENCODERS: "fit_further_encoder",
        DECODERS: "fit_decoder",
    }
    hides_features: ClassVar[bool] = True
    makes_state: ClassVar[int | None] = 0
    loading: Tensor
    weight: Tensor
    log_profile: Tensor
    log_dispersion: Tensor
    target_depth: Tensor
    variance: Tensor
    own_variance: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        n = len(plan.names)
        self.hold("target_depth", torch.tensor(float(plan.depth)))
        self.hold("loading", torch.zeros(n, plan.latent))
        self.hold("log_profile", torch.zeros(n))
        self.hold("weight", torch.zeros(n, plan.latent))
        if plan.first:
            self.hold("variance", torch.ones(plan.latent))
            self.hold("own_variance", torch.ones(n))
        self.weight_change = nn.Parameter(torch.zeros(n, plan.latent))
        self.profile_change = nn.Parameter(torch.zeros(n))
        self.decoder_gate = Gate()
        self.correction = Correction(plan.latent, plan.latent)
        self.hold_law(n)

    def hold_law(self, n: int) -> None:
        """Hold the parameters of the law of `n` molecules around the profile."""
        self.hold("log_dispersion", torch.zeros(n))
        self.dispersion_change = nn.Parameter(torch.zeros(n))

    @property
    def importance(self) -> Tensor | None:
        """What scaled counts are weighed by before they are read (molecule,); None where all count alike."""
        return None

    def prepare(self, graph: TissueGraph, device: Device) -> CountInput:
        """Return the counts of a window."""
        return prepare_counts(graph, *self.key, float(self.target_depth), device)

    def begin(self, graph: TissueGraph) -> None:
        """Take over the common profile of training nodes."""
        level, modality = self.key
        self.log_profile.copy_(graph[level][f"{modality}_common"][graph[level][f"{modality}_panel"]])

    def parted(
        self, data: CountInput, training: Tensor, share: float, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what counts thinned to a share, and the rest of them, say of each node."""
        kept, rest = thinned(data, training, float(self.target_depth), share, generator)
        return self.encode(kept), self.encode(rest)

    def observation(self, data: CountInput) -> Tensor:
        """Return the counts, sparse CSR."""
        return data.counts

    def encode(self, data: CountInput, shown: Tensor | None = None) -> Tensor:
        """Return what the counts alone say of each node (node, latent); for hidden molecules the others speak."""
        by_panel = []
        for panel in data.panels:
            loading = self.reading(panel if shown is None else panel * shown)[0]
            by_panel.append((data.scaled @ loading) - (data.section_mean @ loading)[data.section])
        linear = _of_own_panel(by_panel, data)
        return linear + self.correction(linear)

    def precision(self, data: CountInput, shown: Tensor | None = None) -> Tensor:
        """Return how surely `encode` tells the state (latent,), or (node, latent): less where molecules are missing."""
        full = self.log_precision.exp()
        errors = [self.reading(panel if shown is None else panel * shown)[1] for panel in data.panels]
        found = [full / (1 + full * error) for error in errors]
        return found[0] if len(found) == 1 else torch.stack(found)[data.panel_of[data.section]]

    def reading(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loading that reads the state off molecules `seen` (molecule,), and the error it adds (latent,).

        Of the counts that the state is made of as `reading_of` says; of others those seen speak for all.
        """
        if self.plan.first:
            found, error = reading_of(self.loading, self.variance, self.own_variance, seen)
        else:
            found, error = (
                self.loading * (seen / seen.mean().clamp_min(1e-6))[:, None],
                torch.zeros_like(self.log_precision),
            )
        return (found if self.importance is None else found * self.importance[:, None]), error

    def decoder(self) -> Tensor:
        """Return the weights of the decoder (molecule, latent)."""
        return self.weight + self.decoder_gate(self.weight_change)

    def dispersion(self) -> Tensor:
        """Return the log dispersion of each molecule (molecule,)."""
        return self.log_dispersion + self.decoder_gate(self.dispersion_change)

    def depth(self, data: CountInput) -> Tensor:
        """Return how deeply each node was counted (node,)."""
        crow, values = data.counts.crow_indices().long(), data.counts.values()
        return torch.segment_reduce(values, "sum", offsets=crow, initial=0.0)

    def likelihood(self, z: Tensor, data: CountInput) -> AbstractCounts:
        """Return the distribution of the counts; a section that was not measured has the common profile."""
        told = self.given(z, self.decoder(), data.section_offset, data.section, self.depth(data))
        return replace(told, there=data.there)

    def given(self, z: Tensor, weight: Tensor, offset: Tensor, section: Tensor, depth: Tensor) -> AbstractCounts:
        """Return the distribution of counts by a decoder's `weight` (molecule, latent), see `AbstractCounts`."""
        return NegativeBinomial(z, weight, self.log_rate() + offset, section, depth, self.dispersion())

    def log_rate(self) -> Tensor:
        """Return the log of the common profile (molecule,)."""
        return self.log_profile + self.decoder_gate(self.profile_change)

    def expected(self, z: Tensor, data: CountInput) -> tuple[Tensor, Tensor]:
        """Return expected shares of each molecule, and log1p of counts scaled to the usual depth (node, molecule)."""
        shares = self.likelihood(z, data).shares()
        return shares, torch.log1p(float(self.target_depth) * shares)

    def fit_encoder(self, fitting: Fitting) -> None:
        """Fit profile and dispersion; of the counts that the state is made of, principal components and their noise."""
        self.fit_law(fitting)
        if self.plan.first:
            count_fit.fit_components(self, fitting)
            self.log_precision.copy_(-torch.log(count_fit.thinning_noise(self, fitting)))

    def fit_law(self, fitting: Fitting) -> None:
        """Fit what the law around the profile of the section has of its own."""
        count_fit.fit_profile(self, fitting)

    def fit_further_encoder(self, fitting: Fitting) -> None:
        """Lead further counts into the state that the first ones give."""
        if not self.plan.first:
            self.log_precision.copy_(-torch.log(count_fit.fit_into_first(self, fitting)))

    def fit_decoder(self, fitting: Fitting) -> None:
        """Fit the decoder by maximum likelihood of hidden counts, its scale on held-out tissue, then the dispersion."""
        decoder_fit.fit_decoder(self, fitting)
        self.fit_noise(fitting)

    def fit_noise(self, fitting: Fitting) -> None:
        """Fit what the law says of counts about the decoder."""
        decoder_fit.fit_dispersion(self, fitting)


def _of_own_panel(by_panel: list[Tensor], data: CountInput) -> Tensor:
    """Return of each node (node, latent) what was made with the panel of its section."""
    if len(by_panel) == 1:
        return by_panel[0]
    own = data.panel_of[data.section]
    return torch.stack(by_panel)[own, torch.arange(len(own), device=own.device)]
