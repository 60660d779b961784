"""What mixtures around the negative binomial share: fitted after it, let through molecule by molecule."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
import torch
from torch import Tensor

from aivc_graph.operators.measurement.count_fit import Asked, asked_of
from aivc_graph.operators.measurement.distribution import AbstractCounts
from aivc_graph.operators.measurement.measurement import MeasurementPlan
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.part import Fitting

Mixture = dict[str, Tensor]
STEPS = 60
# Where nobody is held out, one node in so many judges what was fitted to the others.
ONE_IN = 3
# What a mixture has to earn in held-out likelihood, a node and molecule [nats].
WORTH = 1e-3
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
        if fitting.held_out is fitting.training:
            mine = [_every(one, ONE_IN, judge=False) for one in asked]
            judges = [_every(one, ONE_IN, judge=True) for one in asked]
        else:
            mine, judges = asked, asked_of(self, fitting, fitting.held_out, fitting.seed + 3)
        tried = self._fitted(mine)
        plain = {name: torch.full_like(one, SHUT) if name == "logit" else one for name, one in tried.items()}
        plain["log_dispersion"] = self.dispersion()
        gain = sum(self._likelihood(one, tried) - self._likelihood(one, plain) for one in judges)
        number = sum(float(one.node.sum()) * one.molecule for one in judges)
        self.opening.copy_((gain > WORTH * number).float())
        for name, value in (tried if mine is asked else self._fitted(asked)).items():
            self.get_buffer(f"mixture_{name}").copy_(value)

    def _fitted(self, asked: list[Asked]) -> Mixture:
        """Return the parameters of greatest likelihood times prior."""
        start = self.start(asked)
        found = {name: value.clone().requires_grad_() for name, value in start.items()}
        number = sum(float(one.node.sum()) for one in asked)
        spread = sum(float(one.node @ one.z.square().sum(dim=1)) for one in asked) / max(number, 1.0)
        optimiser = torch.optim.LBFGS(found.values(), max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            told = (one.nll_of(self._said(one, found)) for one in asked)
            value = (sum(told, torch.zeros((), device=self.opening.device)) + self.prior(found, start, spread)) / number
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return {name: value.detach() for name, value in found.items()}

    def _said(self, one: Asked, mixture: Mixture) -> AbstractCounts:
        bias = self.log_profile + one.offset
        return self.mixed(one.z, self.weight, bias, one.section, one.depth, mixture)

    def _likelihood(self, one: Asked, mixture: Mixture) -> Tensor:
        """Return the log-likelihood of each molecule that was hidden (molecule,)."""
        return (one.node @ self._said(one, mixture).log_prob(one.counts.to_dense())) * one.molecule


def _every(one: Asked, step: int, *, judge: bool) -> Asked:
    """Return what was asked with one node in `step` alone, or with all others."""
    chosen = torch.arange(len(one.node), device=one.node.device) % step == 0
    return replace(one, node=(chosen if judge else ~chosen).float())
