"""Chromatin as open or closed: whether any fragment was counted in a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.measurement.distribution import AbstractCounts, off
from aivc_graph.operators.measurement.likelihood import Law, bernoulli
from aivc_graph.operators.measurement.poisson import PoissonMeasurement
from aivc_graph.operators.part import KINDS, Device

# Depths at which the number of open regions is worked out, up to so many times the number of regions.
DEPTHS, DEEPEST = 200, 50.0


@dataclass(frozen=True)
class OpenInput(CountInput):
    """Counts, and which of them are `open`, sparse CSR of ones (node, region), at what `depth` (node,)."""

    open: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Bernoulli(AbstractCounts):
    r""":math:`P(y_{vg} > 0) = 1 - e^{-\mu_{vg}}`, see `AbstractCounts`."""

    law: ClassVar[Law] = bernoulli

    def mean(self) -> Tensor:
        """Return the probability that a region is open."""
        return -torch.expm1(-self.rate())

    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of a region being open, where anything was counted, or closed."""
        mu = self.rate().clamp_min(1e-10)
        return torch.where(observed > 0, torch.log(-torch.expm1(-mu)), -mu)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw, 1 where open."""
        return torch.bernoulli(self.mean(), generator=generator)


@KINDS["measurement"].register("bernoulli")
class BernoulliMeasurement(PoissonMeasurement):
    r"""Regions of open chromatin, :math:`P(y_{vg} > 0) = 1 - \exp(-\ell_v r_g e^{z_v \cdot w_g} / c_v)`.

    It is the Poisson of which only zero or not is looked at; :math:`\ell_v` is the depth at which the profile of the
    section would have as many regions open as the cell has, which is more than these where the deepest cells fill up.
    With ``weight`` at zero it is the frequency of each peak.

    References
    ----------
    Ashuach et al. 2022, doi:10.1016/j.crmeth.2022.100182 (PeakVI: Bernoulli with cell and region factors).
    """

    def prepare(self, graph: TissueGraph, device: Device) -> OpenInput:
        """Return the counts of a window, and which regions are open."""
        data = super().prepare(graph, device)
        opened = to_scipy_csr(data.counts.cpu()).copy()
        opened.data = (opened.data > 0).astype(np.float32)
        number = np.asarray(opened.sum(axis=1), np.float64).ravel()
        log_profile = self.log_profile.cpu() + data.section_offset.cpu()
        log_profile = log_profile if (there := data.there) is None else off(log_profile, there.cpu())
        profile = torch.softmax(log_profile, dim=1).double().numpy()
        depth = torch.from_numpy(depth_of_open(number, data.section.cpu().numpy(), profile)).float()
        return OpenInput(**vars(data), open=to_torch_csr(opened).to(device), depth=depth.to(device))

    def observation(self, data: OpenInput) -> Tensor:  # type: ignore[override]
        """Return 1 where a region is open, sparse CSR."""
        return data.open

    def depth(self, data: OpenInput) -> Tensor:  # type: ignore[override]
        """Return the depth at which as many regions would be open as are (node,)."""
        return data.depth

    def given(self, z: Tensor, weight: Tensor, offset: Tensor, section: Tensor, depth: Tensor) -> AbstractCounts:
        """Return the distribution of open regions by a decoder's `weight` (molecule, latent)."""
        return Bernoulli(z, weight, self.log_rate() + offset, section, depth)


def depth_of_open(
    number: NDArray[np.float64], section: NDArray[np.int64], profile: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""Return :math:`\ell` with :math:`\sum_g 1 - e^{-\ell r_g}` the number of open regions (node,).

    Parameters
    ----------
    number, section
        Open regions and section of each node (node,).
    profile
        :math:`r` of each section (section, region).
    """
    depths = np.concatenate([[0.0], np.geomspace(0.1, DEEPEST * profile.shape[1], DEPTHS)])
    found = np.zeros(len(number))
    for one in np.unique(section):
        here = section == one
        found[here] = np.interp(number[here], [-np.expm1(-depth * profile[one]).sum() for depth in depths], depths)
    return found
