"""Surface proteins as counts of antibodies: bound to the cell, or to nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, softplus

from aivc_graph.operators.measurement.decoder_fit import Asked, Mixture
from aivc_graph.operators.measurement.distribution import (
    NegativeBinomial,
    negative_binomial_log_prob,
    negative_binomial_sample,
    off,
)
from aivc_graph.operators.measurement.likelihood import Law, background_foreground
from aivc_graph.operators.measurement.mixture import AbstractMixtureMeasurement
from aivc_graph.operators.part import KINDS


@dataclass(frozen=True)
class BackgroundForeground(NegativeBinomial):
    r""":math:`y \sim \pi_{vg}\,\mathrm{NB}(\ell_v\beta_{sg}, \theta_g) + (1-\pi_{vg})\,\mathrm{NB}(\mu_{vg},\theta_g)`.

    `log_background` β (section, molecule), `logit` c (molecule,), `slope` u (molecule, latent) of
    :math:`\mathrm{logit}\,\pi_{vg} = c_g + z_v \cdot u_g`.
    """

    law: ClassVar[Law] = background_foreground
    log_background: Tensor
    logit: Tensor
    slope: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        low = self._log_background()
        return (self.log_dispersion, low if self.there is None else off(low, self.there), self.logit, self.slope)

    def odds(self) -> Tensor:
        """Return the log odds of background (node, molecule)."""
        return self.logit + self.z @ self.slope.t()

    def mean(self) -> Tensor:
        """Return expected counts, of molecules that were not measured those that would have been counted."""
        background = torch.sigmoid(self.odds())
        return background * self._low() + (1 - background) * self.rate()

    def shares(self) -> Tensor:
        """Return the expected share of each molecule (node, molecule); rows sum to one."""
        return normalize(replace(self, depth=torch.ones_like(self.depth)).mean(), p=1, dim=1)

    def _low(self) -> Tensor:
        return self.depth[:, None] * self._log_background().exp()[self.section]

    def _log_background(self) -> Tensor:
        """Return log β, of the depth of what a section measured (section, molecule)."""
        if self.there is None:
            return self.log_background
        return self.log_background - torch.log((torch.softmax(self.bias, dim=1) * self.there).sum(dim=1, keepdim=True))

    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts."""
        odds, low = self.odds(), self._low()
        return torch.logaddexp(
            logsigmoid(odds) + negative_binomial_log_prob(observed, low, self.log_dispersion),
            logsigmoid(-odds) + negative_binomial_log_prob(observed, self.rate(), self.log_dispersion),
        )

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw of counts."""
        background = torch.bernoulli(torch.sigmoid(self.odds()), generator=generator)
        rate = torch.where(background > 0, self._low(), self.rate())
        return negative_binomial_sample(rate, self.log_dispersion, generator)


@KINDS["measurement"].register("background", modalities=("protein",))
class BackgroundMeasurement(AbstractMixtureMeasurement):
    r"""Counts of antibodies as a mixture of background and foreground, see `BackgroundForeground`.

    The background of a protein is at most its mean in the section. The foreground :math:`\mu_{vg}` is the negative
    binomial of `NegativeBinomialMeasurement` with a share and weights of its own, and :math:`\pi_{vg}` is told of each
    cell and protein by the state. With :math:`\pi = 0` it is that negative binomial, a log-linear read-out of the
    state, which RNA makes up where both are there; with ``weight`` at zero as well the mean of each protein.

    References
    ----------
    Gayoso et al. 2021, doi:10.1038/s41592-020-01050-x (totalVI). There the background has a latent value in every cell;
    here it goes with the cell's depth.
    """

    def start(self, asked: list[Asked]) -> Mixture:
        """Return even odds of a third of the mean and of somewhat more than it."""
        n = self.log_profile
        return {
            "log_dispersion": torch.full_like(n, 1.0) if not asked else self.log_dispersion.clamp_min(0.0),
            "logit": torch.zeros_like(n),
            "below": torch.full_like(n, 1.0),
            "above": torch.full_like(n, 0.3),
            "lead": torch.zeros_like(self.weight),
            "slope": torch.zeros_like(self.weight),
        }

    def prior(self, mixture: Mixture, start: Mixture, spread: float) -> Tensor:
        """Return the negative log of a normal prior about the start."""
        away = {name: (mixture[name] - start[name]).square().sum() for name in start}
        of_each = away["log_dispersion"] + away["logit"] + away["below"] + away["above"]
        return 0.1 * of_each + spread * (away["slope"] + 2 * away["lead"])

    def mixed(
        self, z: Tensor, weight: Tensor, bias: Tensor, section: Tensor, depth: Tensor, mixture: Mixture
    ) -> BackgroundForeground:
        """Return the mixture."""
        shut = torch.isinf(mixture["logit"])
        low = bias - softplus(mixture["below"])
        bias = bias + torch.where(shut, 0.0, mixture["above"])
        weight = weight + torch.where(shut[:, None], 0.0, mixture["lead"])
        theta, logit = mixture["log_dispersion"], mixture["logit"]
        return BackgroundForeground(z, weight, bias, section, depth, theta, low, logit, mixture["slope"])
