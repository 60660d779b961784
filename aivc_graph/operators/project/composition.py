"""What a parent without measured children is made of: non-negative shares of type profiles in its own counts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator

REWEIGHTINGS = 2
Floats = NDArray[np.float64]


class CompositionProject(nn.Module):
    r"""Share of each cell type under a patch, from the patch's counts alone.

    With :math:`\mu_{tg}` the expected counts of a cell of type t and :math:`e_g` how much better the patch's platform
    catches gene g than the cells' does,

    .. math:: \hat a_s = \arg\min_{a \ge 0} \sum_g \frac{(y_{sg} - e_g^{\varepsilon} \sum_t a_t \mu_{tg})^2}
              {v_{sg}^{\omega}}, \qquad p_s = \hat a_s / \textstyle\sum_t \hat a_{st}

    where :math:`v = m + m^2 / \theta` is the variance of a negative binomial around the fit m. Two corrections follow:
    a share c of what ridge on log expression has learned from compositions measured at anchors, which without slope is
    their mean; and a share s of the mean over the nearest patches. With ε = ω = c = s = 0, the start, it is exactly
    non-negative least squares on the type profiles; with c = 1 and no slope, the mean composition. Invariant to the
    order of patches and molecules.

    Parameters
    ----------
    n_types, n_molecules
        Sizes; the molecules are those that patches and cells both count.

    Shapes
    ------
    counts
        (patch, molecule)
    neighbours
        (patch, patch), who is near whom
    out
        (patch, type); rows sum to one, or to zero where nothing was counted

    References
    ----------
    Lawson & Hanson 1974, doi:10.1137/1.9781611971217 (non-negative least squares); Cable et al. 2022,
    doi:10.1038/s41587-021-00830-w (platform effects of genes).
    """

    def __init__(self, n_types: int, n_molecules: int) -> None:
        super().__init__()
        self.profiles = _fixed(torch.zeros(n_types, n_molecules))
        self.log_efficiency = _fixed(torch.zeros(n_molecules))
        self.log_theta = _fixed(torch.zeros(n_molecules))
        self.prior = _fixed(torch.zeros(n_types))
        self.centre = _fixed(torch.zeros(n_molecules))
        self.calibration = _fixed(torch.zeros(n_molecules, n_types))
        self.efficiency_share = _fixed(torch.zeros(()))
        self.variance_share = _fixed(torch.zeros(()))
        self.calibration_share = _fixed(torch.zeros(()))
        self.neighbour_share = _fixed(torch.zeros(()))

    @torch.no_grad()
    def forward(self, counts: Tensor, neighbours: SparseOperator | None = None) -> Tensor:
        """Return the share of each type (patch, type)."""
        shares = self.calibrated(self.solved(counts), counts)
        return shares if neighbours is None else self.smoothed(shares, neighbours)

    @torch.no_grad()
    def solved(self, counts: Tensor) -> Tensor:
        """Return the shares of the least-squares fit (patch, type)."""
        y = counts.double().cpu().numpy()
        seen = self.profiles.double() * (self.efficiency_share * self.log_efficiency.double()).exp()
        profiles, dispersion = seen.cpu().numpy(), self.log_theta.double().exp().cpu().numpy()
        amounts = non_negative(y, profiles)
        power = float(self.variance_share)
        for _ in range(REWEIGHTINGS if power else 0):
            mean = amounts @ profiles
            floor = np.maximum(mean, 1e-3 * y.mean() + 1e-12)
            amounts = non_negative(y, profiles, (floor + floor**2 / dispersion) ** -power)
        return torch.from_numpy(_normalised(amounts)).to(counts)

    @torch.no_grad()
    def calibrated(self, shares: Tensor, counts: Tensor) -> Tensor:
        """Return `shares` mixed with what anchors have taught of expression."""
        learned = (self.prior + (log_expression(counts) - self.centre) @ self.calibration).clamp_min(0.0)
        learned = learned / learned.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return shares + self.calibration_share * (counts.sum(dim=1, keepdim=True) > 0) * (learned - shares)

    @torch.no_grad()
    def smoothed(self, shares: Tensor, neighbours: SparseOperator) -> Tensor:
        """Return `shares` mixed with the mean of those neighbours of which something is known."""
        known = (shares.sum(dim=1, keepdim=True) > 0).float()
        number = neighbours @ known
        mean = (neighbours @ shares) / number.clamp_min(1e-12)
        return shares + self.neighbour_share * known * (number > 0) * (mean - shares)


def _fixed(start: Tensor) -> nn.Parameter:
    """Return what is fitted in closed form and never by gradient."""
    return nn.Parameter(start, requires_grad=False)


def log_expression(counts: Tensor) -> Tensor:
    """Return ``log1p(100 · y / Σ y)``, patch by patch."""
    return torch.log1p(100.0 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0))


def non_negative(counts: Floats, profiles: Floats, weight: Floats | None = None) -> Floats:
    """Return the non-negative least-squares amounts (patch, type) of `profiles` (type, molecule) in `counts`."""
    out = np.zeros((len(counts), len(profiles)))
    for row, y in enumerate(counts):
        if y.any():
            root = np.ones(len(y)) if weight is None else np.sqrt(weight[row] / weight[row].mean())
            out[row] = nnls((profiles * root).T, y * root)[0]
    return out


def _normalised(amounts: Floats) -> Floats:
    return amounts / np.maximum(amounts.sum(axis=1, keepdims=True), 1e-12)
