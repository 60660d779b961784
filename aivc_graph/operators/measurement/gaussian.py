"""Dense features (tiles, nuclei, cell shape) as a Gaussian with a learned diagonal scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GaussianMeasurement(nn.Module):
    r"""Features of a node as :math:`x_v \sim \mathcal{N}(B z_v + \bar x,\ \mathrm{diag}(\sigma^2))`.

    Encoding standardises within the section and maps linearly, :math:`u_v = A\,(x_v - \bar x_{s(v)})/\sigma_{s(v)}`,
    plus a gated correction; with the gate at zero and A fitted by ridge regression it is ridge from image to state.
    With B at zero the prediction is the feature mean.

    Shapes
    ------
    features
        (node, feature), standardised within their section
    latent
        (node, latent)
    """

    def __init__(self, n_features: int, latent: int) -> None:
        super().__init__()
        self.loading = nn.Parameter(torch.zeros(n_features, latent))
        self.weight = nn.Parameter(torch.zeros(n_features, latent))
        self.log_scale = nn.Parameter(torch.zeros(n_features))
        self.hidden = nn.Sequential(nn.Linear(n_features, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))

    def standardise(self, features: Tensor, section_mean: Tensor, section_spread: Tensor, section: Tensor) -> Tensor:
        """Return features (node, feature) less their section's mean, in units of its spread: scanners differ."""
        return (features - section_mean[section]) / section_spread[section]

    def encode(self, standard: Tensor) -> Tensor:
        """Return what the features alone say of each node (node, latent)."""
        return standard @ self.loading + self.gate * self.hidden(standard)

    def predict(self, z: Tensor) -> Tensor:
        """Return expected standardised features (node, feature)."""
        return z @ self.weight.t()

    def nll(self, z: Tensor, standard: Tensor, node_weight: Tensor) -> Tensor:
        """Return the weighted sum over nodes of the negative log-likelihood, without its constant."""
        residual = (standard - self.predict(z)) * torch.exp(-self.log_scale)
        per_node = 0.5 * residual.square().sum(dim=1) + self.log_scale.sum()
        return node_weight @ per_node
