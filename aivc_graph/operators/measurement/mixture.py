"""What mixtures around the negative binomial share: fitted after it, let through molecule by molecule."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from aivc_graph.operators.measurement.decoder_fit import Asked, Mixture, asked_of, likeliest
from aivc_graph.operators.measurement.distribution import AbstractCounts
from aivc_graph.operators.measurement.measurement import MeasurementPlan
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.part import Fitting

SHUT = -torch.inf


class AbstractMixtureMeasurement(NegativeBinomialMeasurement):
    """A negative binomial mixed with another law, whose gate is shut for every molecule at the start.

    The negative binomial is fitted first. The mixture then follows by maximum likelihood of what was hidden, and is let
    through for those molecules whose held-out likelihood it makes better: on groups held out where there are any, else
    on nodes that it was not fitted to. A molecule that is shut is the negative binomial.
    """

    opening: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        self.hold("opening", torch.zeros(len(plan.names)))
        start = self.start([])
        self._named = tuple(start)
        for name, value in start.items():
            self.hold(f"mixture_{name}", value)

    @abstractmethod
    def start(self, asked: list[Asked]) -> Mixture:
        """Return the parameters a fit to `asked` starts from, `log_dispersion` and `logit` among them (molecule, …)."""

    @abstractmethod
    def prior(self, mixture: Mixture, start: Mixture, spread: float) -> Tensor:
        """Return the negative log of the prior of the parameters; `spread` is the mean squared length of the state."""

    @abstractmethod
    def mixed(
        self, z: Tensor, weight: Tensor, bias: Tensor, section: Tensor, depth: Tensor, mixture: Mixture
    ) -> AbstractCounts:
        """Return the mixture; a molecule with a `logit` of minus infinity is the negative binomial."""

    def given(self, z: Tensor, weight: Tensor, offset: Tensor, section: Tensor, depth: Tensor) -> AbstractCounts:
        """Return the mixture as far as it is let through, else the negative binomial."""
        if not bool(self.opening.any()):
            return super().given(z, weight, offset, section, depth)
        fitted = {name: self.get_buffer(f"mixture_{name}") for name in self._named}
        change = self.decoder_gate(self.dispersion_change)
        through = fitted | {"log_dispersion": fitted["log_dispersion"] + change}
        return self.mixed(z, weight, self.log_rate() + offset, section, depth, self.let_through(through, self.opening))

    def let_through(self, mixture: Mixture, opening: Tensor) -> Mixture:
        """Return the parameters with those of the negative binomial where `opening` (molecule,) is zero."""
        shut = opening == 0
        theta = torch.where(shut, self.dispersion(), mixture["log_dispersion"])
        return mixture | {"log_dispersion": theta, "logit": torch.where(shut, SHUT, mixture["logit"])}

    def fit_decoder(self, fitting: Fitting) -> None:
        """Fit the negative binomial, then the mixture, then choose the molecules it is let through for."""
        self.opening.zero_()
        super().fit_decoder(fitting)
        asked = asked_of(self, fitting, fitting.training, fitting.seed + 2)
        if not asked:
            return
        start = self.start(asked)
        spread = sum(float(one.z.square().sum()) for one in asked) / sum(len(one.z) for one in asked)
        plain = self.let_through(start, self.opening)

        def said(one: Asked, mixture: Mixture) -> AbstractCounts:
            return self.mixed(one.z, self.weight, self.log_profile + one.offset, one.section, one.depth, mixture)

        found, better = likeliest(
            fitting, self, asked, start, plain, said, lambda mixture: self.prior(mixture, start, spread)
        )
        self.opening.copy_(better.float())
        for name, value in found.items():
            self.get_buffer(f"mixture_{name}").copy_(value)
