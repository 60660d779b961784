"""RNA counts with more zeros than a negative binomial has, molecule by molecule and where held-out tissue says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph.operators.measurement.decoder_fit import Asked, Mixture
from aivc_graph.operators.measurement.distribution import NegativeBinomial, negative_binomial_log_prob
from aivc_graph.operators.measurement.likelihood import Law, zero_inflated
from aivc_graph.operators.measurement.mixture import AbstractMixtureMeasurement
from aivc_graph.operators.part import KINDS

# Log odds of a surplus zero that a fit starts from.
FEW = -2.0


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r""":math:`y \sim \pi_g\,[y = 0] + (1 - \pi_g)\,\mathrm{NB}(\mu_{vg}, \theta_g)`; `logit` of π (molecule,)."""

    law: ClassVar[Law] = zero_inflated
    logit: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion, self.logit)

    def mean(self) -> Tensor:
        """Return expected counts."""
        return self.rate() * torch.sigmoid(-self.logit)

    def shares(self) -> Tensor:
        """Return the expected share of each molecule (node, molecule); rows sum to one."""
        return torch.nn.functional.normalize(self._profile() * torch.sigmoid(-self.logit), p=1, dim=1)

    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts."""
        counted = negative_binomial_log_prob(observed, self.rate(), self.log_dispersion)
        counted = counted + torch.nn.functional.logsigmoid(-self.logit)
        extra = torch.nn.functional.logsigmoid(self.logit).expand_as(counted)
        return torch.where(observed > 0, counted, torch.logaddexp(counted, extra))

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw of counts."""
        drawn = super().sample(generator)
        return drawn * torch.bernoulli(torch.sigmoid(-self.logit).expand_as(drawn), generator=generator)


@KINDS["measurement"].register("zero_inflated")
class ZeroInflatedMeasurement(AbstractMixtureMeasurement):
    r"""Counts as a negative binomial with surplus zeros, :math:`\pi_g\,[y = 0] + (1 - \pi_g)\,\mathrm{NB}`.

    All else is as in `NegativeBinomialMeasurement`, which it is for every molecule of which held-out tissue does not
    support :math:`\pi_g > 0`.

    References
    ----------
    Lopez et al. 2018, doi:10.1038/s41592-018-0229-2 (zero-inflated negative binomial of counts given a state).
    """

    def start(self, asked: list[Asked]) -> Mixture:
        """Return few surplus zeros, and the dispersion of the negative binomial."""
        logit = torch.full_like(self.log_profile, FEW)
        return {"log_dispersion": self.log_dispersion.clone(), "logit": logit}

    def prior(self, mixture: Mixture, start: Mixture, spread: float) -> Tensor:
        """Return the negative log of a normal prior about the start."""
        away = {name: mixture[name] - start[name] for name in start}
        return 0.5 * away["log_dispersion"].square().sum() + 0.1 * away["logit"].square().sum()

    def mixed(
        self, z: Tensor, weight: Tensor, bias: Tensor, section: Tensor, depth: Tensor, mixture: Mixture
    ) -> ZeroInflatedNegativeBinomial:
        """Return the mixture."""
        return ZeroInflatedNegativeBinomial(
            z, weight, bias, section, depth, mixture["log_dispersion"], mixture["logit"]
        )
