"""What a measurement says of its observation: one object with mean, log-probability and sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from aivc_graph.operators.measurement.likelihood import Law, counts_nll, negative_binomial

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# Of a softmax: as good as minus infinity, but a row of nothing else stays a number.
NO_SHARE = -1e9


class AbstractDistribution(ABC):
    """A distribution of the observation of every node; `by_node` names its fields that have a row for each."""

    by_node: ClassVar[tuple[str, ...]]

    def at(self, rows: Tensor) -> Self:
        """Return the distribution of some nodes alone."""
        return replace(cast(Any, self), **{name: getattr(self, name)[rows] for name in self.by_node})

    @abstractmethod
    def mean(self) -> Tensor:
        """Return the expectation (node, feature)."""

    @abstractmethod
    def log_prob(self, observed: Tensor) -> Tensor:
        """Return the log-probability of each dense value `observed` (node, feature)."""

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw (node, feature)."""

    def nll(self, observed: Any, node_weight: Tensor, feature_weight: Tensor) -> Tensor:
        """Return the negative log-likelihood summed with weights (node,) and (feature,)."""
        return -(node_weight @ (self.log_prob(observed) @ feature_weight))

    def number(self, node_weight: Tensor, feature_weight: Tensor) -> float:
        """Return how many terms `nll` has, summed with the same weights."""
        return float(node_weight.sum() * feature_weight.sum())


@dataclass(frozen=True)
class AbstractCounts(AbstractDistribution):
    r"""Counts around :math:`\mu_{vg} = \ell_v\,\mathrm{softmax}_g(z_v \cdot w_g + b_{s(v)g})`.

    Shapes
    ------
    `z` (node, latent), `weight` (molecule, latent), `bias` (section, molecule), `section` and `depth` ℓ (node,);
    `there` (section, molecule), which molecules sections measured, None where all were. The depth is then that of
    those, over which the softmax of the likelihood runs: the same as all molecules at the depth
    :math:`\ell_v / \sum_{h\,\text{there}} \rho_h`. Others have a mean, but no likelihood.
    """

    z: Tensor
    weight: Tensor
    bias: Tensor
    section: Tensor
    depth: Tensor
    there: Tensor | None = field(default=None, kw_only=True)

    by_node: ClassVar[tuple[str, ...]] = ("z", "section", "depth")
    # What `counts_nll` is told of the law.
    law: ClassVar[Law]

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters of the law; none by default."""
        return ()

    @abstractmethod
    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts as if all molecules had been measured (node, molecule)."""

    def rate(self) -> Tensor:
        r"""Return :math:`\mu` (node, molecule), of molecules that were not measured as if they had been."""
        shares = self._profile()
        if self.there is None:
            return self.depth[:, None] * shares
        return (self.depth / (shares * self.there[self.section]).sum(dim=1).clamp_min(1e-12))[:, None] * shares

    def _profile(self) -> Tensor:
        return torch.softmax(self.z @ self.weight.t() + self.bias[self.section], dim=1)

    def mean(self) -> Tensor:
        """Return expected counts, of molecules that were not measured those that would have been counted."""
        return self.rate()

    def shares(self) -> Tensor:
        """Return the expected share of each molecule (node, molecule); rows sum to one."""
        return self._profile()

    def log_prob(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts, 0 where they were not measured."""
        found = self.log_mass(observed)
        return found if self.there is None else torch.where(self.there[self.section], found, 0.0)

    def nll(self, observed: Tensor, node_weight: Tensor, feature_weight: Tensor) -> Tensor:
        """Return the weighted negative log-likelihood of sparse CSR counts, in memory that does not grow with both."""
        bias = self.bias if self.there is None else off(self.bias, self.there)
        return counts_nll(
            type(self).law, self.z, self.weight, bias, self.parameters, observed, self.depth, self.section,
            node_weight, feature_weight,
        )  # fmt: skip

    def number(self, node_weight: Tensor, feature_weight: Tensor) -> float:
        """Return how many terms `nll` has: of what was measured."""
        if self.there is None:
            return super().number(node_weight, feature_weight)
        return float(node_weight @ (self.there.to(feature_weight) @ feature_weight)[self.section])


def off(logits: Tensor, there: Tensor) -> Tensor:
    """Return `logits` (section, molecule) with no share left to what is not `there`."""
    return logits.masked_fill(~there, NO_SHARE)


@dataclass(frozen=True)
class NegativeBinomial(AbstractCounts):
    r""":math:`y_{vg} \sim \mathrm{NB}(\mu_{vg},\ \theta_g)`; `log_dispersion` (molecule,), see `AbstractCounts`."""

    law: ClassVar[Law] = negative_binomial
    log_dispersion: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return (self.log_dispersion,)

    def log_mass(self, observed: Tensor) -> Tensor:
        """Return the log-probability of dense counts."""
        return negative_binomial_log_prob(observed, self.rate(), self.log_dispersion)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw of counts."""
        return negative_binomial_sample(self.rate(), self.log_dispersion, generator)


def negative_binomial_log_prob(observed: Tensor, rate: Tensor, log_dispersion: Tensor) -> Tensor:
    """Return the log-probability of counts (node, molecule) at a rate (node, molecule) and dispersion (molecule,)."""
    theta, mu = log_dispersion.exp(), rate.clamp_min(1e-10)
    return (
        torch.lgamma(observed + theta) - torch.lgamma(theta) - torch.lgamma(observed + 1)
        + theta * torch.log(theta / (theta + mu)) + observed * torch.log(mu / (theta + mu))
    )  # fmt: skip


def negative_binomial_sample(rate: Tensor, log_dispersion: Tensor, generator: torch.Generator) -> Tensor:
    """Return one draw of counts (node, molecule) at a rate (node, molecule) and dispersion (molecule,)."""
    theta = log_dispersion.exp().expand(len(rate), -1)
    return torch.poisson(torch._standard_gamma(theta, generator=generator) * rate / theta, generator=generator)


@dataclass(frozen=True)
class Normal(AbstractDistribution):
    """Independent normal features with `location` (node, feature) and `log_scale` (feature,)."""

    by_node: ClassVar[tuple[str, ...]] = ("location",)
    location: Tensor
    log_scale: Tensor

    def mean(self) -> Tensor:
        """Return the location."""
        return self.location

    def log_prob(self, observed: Tensor) -> Tensor:
        """Return the log-density of each value, 0 where it was not measured and is not a number."""
        known = torch.isfinite(observed)
        away = (torch.where(known, observed, self.location) - self.location) * torch.exp(-self.log_scale)
        return torch.where(known, -0.5 * away.square() - self.log_scale - HALF_LOG_TAU, 0.0)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw."""
        noise = torch.randn(self.location.shape, generator=generator, device=self.location.device)
        return self.location + self.log_scale.exp() * noise


@dataclass(frozen=True)
class Categorical(AbstractDistribution):
    r"""One of several classes, :math:`p_c = \mathrm{softmax}_c(\mathrm{logits})`, `logits` (node, class).

    What is observed is one-hot (node, class).
    """

    by_node: ClassVar[tuple[str, ...]] = ("logits",)
    logits: Tensor

    def mean(self) -> Tensor:
        """Return the probability of each class."""
        return torch.softmax(self.logits, dim=1)

    def log_prob(self, observed: Tensor) -> Tensor:
        """Return the log-probability of the class of each node (node, 1), 0 where it has none."""
        return (torch.log_softmax(self.logits, dim=1) * observed).sum(dim=1, keepdim=True)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw, one-hot."""
        drawn = torch.multinomial(self.mean(), 1, generator=generator)
        return torch.zeros_like(self.logits).scatter_(1, drawn, 1.0)


@dataclass(frozen=True)
class StudentT(AbstractDistribution):
    """Independent features with heavy tails, with `location` (node, feature), `log_scale` and `freedom` (feature,).

    References
    ----------
    Lange, Little & Taylor 1989, doi:10.1080/01621459.1989.10478852 (robust modelling by the t distribution).
    """

    by_node: ClassVar[tuple[str, ...]] = ("location",)
    location: Tensor
    log_scale: Tensor
    freedom: Tensor

    def mean(self) -> Tensor:
        """Return the location."""
        return self.location

    def log_prob(self, observed: Tensor) -> Tensor:
        """Return the log-density of each value, 0 where it was not measured and is not a number."""
        known, nu = torch.isfinite(observed), self.freedom
        away = (torch.where(known, observed, self.location) - self.location) * torch.exp(-self.log_scale)
        top = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * torch.log(nu * math.pi) - self.log_scale
        return torch.where(known, top - (nu + 1) / 2 * torch.log1p(away.square() / nu), 0.0)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one draw."""
        nu = self.freedom.expand(self.location.shape)
        noise = torch.randn(self.location.shape, generator=generator, device=self.location.device)
        spread = torch.sqrt(nu / 2 / torch._standard_gamma(nu / 2, generator=generator))
        return self.location + self.log_scale.exp() * noise * spread
