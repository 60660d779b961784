"""RNA and other counts: a linear lift from molecules to a node, and a negative binomial back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.measurement.likelihood import negative_binomial_nll
from aivc_graph.operators.product import SparseOperator


class NegativeBinomialMeasurement(nn.Module):
    r"""Counts of molecules as a negative binomial around a log-linear profile.

    Encoding lifts molecules to their node, :math:`u_v = (x_v - \bar x_{s(v)})\,E` with
    :math:`x = \log(1 + c\,y/\ell)` and :math:`\bar x_s` the mean over the node's section, plus a gated correction.
    Decoding is

    .. math:: y_{vg} \sim \mathrm{NB}(\ell_v\,\mathrm{softmax}_g(z_v \cdot w_g + b_{sg}),\ \theta_g)

    With ``weight`` at zero the prediction is the mean profile of the section; with ``gate`` at zero the encoding is a
    principal component projection. Invariant to the order of molecules and nodes.

    Parameters
    ----------
    n_molecules, latent
        Sizes.
    target_depth
        c, the depth [counts] to which each node is scaled before the logarithm.

    Shapes
    ------
    counts
        sparse CSR (node, molecule), log1p-scaled for `encode`, raw for `nll`
    latent
        (node, latent)

    References
    ----------
    Lopez et al. 2018, doi:10.1038/s41592-018-0229-2 (negative binomial of counts given a latent state).
    """

    def __init__(self, n_molecules: int, latent: int, target_depth: float = 1.0) -> None:
        super().__init__()
        self.loading = nn.Parameter(torch.zeros(n_molecules, latent))
        self.weight = nn.Parameter(torch.zeros(n_molecules, latent))
        self.log_profile = nn.Parameter(torch.zeros(n_molecules))
        self.log_dispersion = nn.Parameter(torch.zeros(n_molecules))
        self.hidden = nn.Sequential(nn.Linear(latent, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))
        self.target_depth: Tensor
        self.register_buffer("target_depth", torch.tensor(float(target_depth)))

    def encode(
        self, scaled: SparseOperator, section_mean: Tensor, section: Tensor, shown: Tensor | None = None
    ) -> Tensor:
        """Return what the counts alone say of each node (node, latent).

        Parameters
        ----------
        scaled
            log1p-scaled counts (node, molecule).
        section_mean
            Mean of the scaled counts in each section (section, molecule).
        section
            Row of `section_mean` of each node (node,).
        shown
            Molecules that may be seen (molecule,), 0 or 1; the rest is hidden and the loadings are scaled up.
        """
        loading = self.loading if shown is None else self.loading * (shown / shown.mean().clamp_min(1e-6))[:, None]
        linear = (scaled @ loading) - (section_mean @ loading)[section]
        return linear + self.gate * self.hidden(linear)

    def shares(self, z: Tensor, section_offset: Tensor, section: Tensor) -> Tensor:
        """Return the expected share of each molecule (node, molecule); rows sum to one.

        `section_offset` (section, molecule) is the log of each section's own profile over the common one; zero where a
        section was not measured.
        """
        return torch.softmax(z @ self.weight.t() + (self.log_profile + section_offset)[section], dim=1)

    def nll(
        self,
        z: Tensor,
        section_offset: Tensor,
        section: Tensor,
        counts: Tensor,
        node_weight: Tensor,
        gene_weight: Tensor,
    ) -> Tensor:
        """Return the negative log-likelihood of `counts`, summed over nodes and molecules by their weights."""
        bias = self.log_profile + section_offset
        return negative_binomial_nll(
            z, self.weight, bias, self.log_dispersion, counts, section, node_weight, gene_weight
        )
