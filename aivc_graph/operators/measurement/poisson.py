"""Chromatin as counts of fragments: a Poisson around a log-linear profile, read off by TF-IDF and its components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.measurement import count_fit
from aivc_graph.operators.measurement.distribution import AbstractCounts
from aivc_graph.operators.measurement.likelihood import Law, poisson
from aivc_graph.operators.measurement.measurement import MeasurementPlan
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.part import KINDS, Fitting

# Log dispersion of counts that vary as a Poisson does.
NONE = 9.0


@dataclass(frozen=True)
class Poisson(AbstractCounts):
    r""":math:`y_{vg} \sim \mathrm{Poisson}(\mu_{vg})`, see `AbstractCounts`."""

    law: ClassVar[Law] = poisson

    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts."""
        mu = self.rate().clamp_min(1e-10)
        return observed * torch.log(mu) - mu - torch.lgamma(observed + 1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw of counts."""
        return torch.poisson(self.rate(), generator=generator)


@KINDS["measurement"].register("poisson", modalities=("atac",))
class PoissonMeasurement(NegativeBinomialMeasurement):
    r"""Counts of fragments in regions of open chromatin, :math:`\mathrm{Poisson}(\ell_v r_g e^{z_v \cdot w_g} / c_v)`.

    :math:`\ell_v` is the depth of the cell and :math:`r_g` the factor of the region, its share of all fragments in the
    section; :math:`c_v` makes shares sum to one. With ``weight`` at zero it is the frequency of each peak. What is read
    off the counts are the leading components of TF-IDF, :math:`\log(1 + c\,y/\ell) \cdot \log(1 + n/n_g)` with
    :math:`n_g` of n cells in which the region is open, so that rare regions speak as well as those open everywhere.
    Invariant to the order of regions and nodes.

    References
    ----------
    Martens et al. 2023, doi:10.1038/s41592-023-02112-6 (Poisson of fragment counts); Cusanovich et al. 2015,
    doi:10.1126/science.aab1601 (TF-IDF); Ashuach et al. 2022, doi:10.1016/j.crmeth.2022.100182 (depth and region
    factor).
    """

    rarity: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        self.hold("rarity", torch.ones(len(plan.names)))

    def dispersion(self) -> Tensor:
        """Return a log dispersion (molecule,) at which the negative binomial is the Poisson."""
        return torch.full_like(self.log_profile, NONE)

    def hold_law(self, n: int) -> None:
        """Hold nothing: the variance is the mean."""

    @property
    def importance(self) -> Tensor:
        """The inverse document frequency of each region (molecule,)."""
        return self.rarity

    def given(self, z: Tensor, weight: Tensor, offset: Tensor, section: Tensor, depth: Tensor) -> AbstractCounts:
        """Return the distribution of counts by a decoder's `weight` (molecule, latent)."""
        return Poisson(z, weight, self.log_rate() + offset, section, depth)

    def fit_noise(self, fitting: Fitting) -> None:
        """Fit nothing: the variance is the mean."""

    def fit_law(self, fitting: Fitting) -> None:
        """Say how much a region tells by how few cells it is open in."""
        found, number = np.zeros(len(self.plan.names)), 0
        for _, data, rows in count_fit.rows_of(self, fitting.training):
            found += np.bincount(to_scipy_csr(data.counts.cpu())[rows].indices, minlength=len(found))
            number += len(rows)
        self.rarity.copy_(torch.from_numpy(np.log1p(number / np.maximum(found, 1.0))).float())
