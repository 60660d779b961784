"""A state read off some of the features: the others are told by the factor model that goes with the components."""

from __future__ import annotations

import torch
from torch import Tensor


def reading_of(loading: Tensor, variance: Tensor, own_variance: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the loading that reads the state off the features `seen` (feature,), and the error it adds (latent,).

    With all of them that is the loading E and no error. Otherwise what the others would be is told by the factor model
    :math:`x = E f + \epsilon,\ f \sim \mathcal N(0, \Lambda),\ \epsilon_g \sim \mathcal N(0, \psi_g)`,

    .. math:: u = E_S^\top x_S + E_H^\top E_H\,\mathbb E[f \mid x_S],\qquad
              \mathbb E[f \mid x_S] = (E_S^\top\Psi_S^{-1}E_S + \Lambda^{-1})^{-1} E_S^\top\Psi_S^{-1} x_S,

    and the error is the posterior variance of the second term.

    Shapes
    ------
    `loading` (feature, latent), `variance` (latent,) of the factors, `own_variance` (feature,) beside them.
    """
    if bool(seen.all()):
        return loading, torch.zeros_like(variance)
    shown = loading * seen[:, None]
    weighed = shown / own_variance[:, None]
    posterior = torch.linalg.inv(shown.t() @ weighed + torch.diag(1 / variance))
    others = loading.t() @ (loading - shown)
    return shown + weighed @ posterior @ others, (others @ posterior @ others).diagonal()
