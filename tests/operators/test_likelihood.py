"""Laws of counts against scipy's, and their hand-written gradients against automatic ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from aivc_graph.operators.measurement import likelihood
from aivc_graph.operators.measurement.background import BackgroundForeground
from aivc_graph.operators.measurement.bernoulli import Bernoulli, depth_of_open
from aivc_graph.operators.measurement.distribution import AbstractCounts, NegativeBinomial
from aivc_graph.operators.measurement.poisson import Poisson
from aivc_graph.operators.measurement.zero_inflated import ZeroInflatedNegativeBinomial

NODES, MOLECULES = 40, 12
LAWS: list[type[AbstractCounts]] = [
    NegativeBinomial,
    ZeroInflatedNegativeBinomial,
    BackgroundForeground,
    Poisson,
    Bernoulli,
]


def counts() -> Tensor:
    torch.manual_seed(0)
    found = torch.poisson(torch.rand(NODES, MOLECULES) * 3)
    found[0] = 0
    found[1, 3] = 500  # beyond the table of small counts
    return found


def said(law: type[AbstractCounts], sections: int = 2) -> AbstractCounts:
    """Return a law of the nodes of some sections; of mixtures, molecule 3 is shut."""
    torch.manual_seed(1)
    z, weight, bias = torch.randn(NODES, 3), torch.randn(MOLECULES, 3), torch.randn(sections, MOLECULES)
    logit = torch.randn(MOLECULES)
    logit[3] = -torch.inf
    given: dict[str, Any] = {
        "log_dispersion": torch.randn(MOLECULES),
        "logit": logit,
        "log_background": torch.randn(sections, MOLECULES) - 3,
        "slope": torch.randn(MOLECULES, 3),
    }
    own = {name: given[name] for name in law.__dataclass_fields__ if name in given}
    return law(z, weight, bias, torch.arange(NODES) % sections, counts().sum(dim=1) + 1, **own)


def learnt(one: AbstractCounts) -> list[Tensor]:
    leaves = [one.z, one.weight, one.bias, *one.parameters]
    return [leaf.requires_grad_() for leaf in leaves]


@pytest.mark.parametrize("law", LAWS)
def test_probabilities_are_those_of_scipy(law: type[AbstractCounts]) -> None:
    one, y = said(law), counts().numpy()
    mu = one.rate().double().numpy()
    own = {name: value.double().numpy() for name, value in vars(one).items() if value is not None}
    if law is Poisson:
        told = stats.poisson.logpmf(y, mu)
    elif law is Bernoulli:
        told = np.where(y > 0, stats.poisson.logsf(0, mu), stats.poisson.logpmf(0, mu))
    else:
        theta = np.exp(own["log_dispersion"])
        told = stats.nbinom.logpmf(y, theta, theta / (theta + mu))
    if law is ZeroInflatedNegativeBinomial:
        pi = 1 / (1 + np.exp(-own["logit"]))
        told = np.log(pi * (y == 0) + (1 - pi) * np.exp(told))
    if law is BackgroundForeground:
        pi = 1 / (1 + np.exp(-(own["logit"] + own["z"] @ own["slope"].T)))
        low = own["depth"][:, None] * np.exp(own["log_background"])[one.section.numpy()]
        told = np.log(pi * stats.nbinom.pmf(y, theta, theta / (theta + low)) + (1 - pi) * np.exp(told))
    np.testing.assert_allclose(one.log_prob(counts()).numpy(), told, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("sections", "chunk"), [(1, 4_000_000), (3, 50)])
def test_value_and_gradients_equal_those_of_the_dense_log_probability(
    law: type[AbstractCounts], sections: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "CHUNK_ELEMENTS", chunk)
    one, node, molecule = said(law, sections), torch.rand(NODES), (torch.arange(MOLECULES) % 3 > 0).float()
    node[5] = 0
    y = (counts() > 0).float() if law is Bernoulli else counts()
    leaves = learnt(one)
    ours = one.nll(y.to_sparse_csr(), node, molecule)
    shown = torch.where(molecule > 0, one.log_prob(y), 0.0)
    theirs = -(node @ shown.sum(dim=1))
    assert torch.allclose(ours, theirs, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        # Of a molecule that is shut the slope by its logit is nothing; through an infinity it is no number.
        assert torch.isfinite(a).all()
        b = torch.where(torch.isfinite(b), b, 0.0)
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("law", LAWS)
def test_a_gradient_is_the_same_whoever_else_asks_for_one(law: type[AbstractCounts]) -> None:
    y, weights = counts().to_sparse_csr(), (torch.rand(NODES), torch.ones(MOLECULES))
    every = said(law)
    leaves = learnt(every)
    value = every.nll(y, *weights)
    for i, whole in enumerate(torch.autograd.grad(value, leaves)):
        for j, leaf in enumerate(leaves):
            leaf.requires_grad_(i == j)
        alone = every.nll(y, *weights)
        assert torch.equal(alone, value)
        torch.testing.assert_close(torch.autograd.grad(alone, [leaves[i]])[0], whole)
    with torch.no_grad():
        unasked = every.nll(y, *weights)
    assert torch.equal(unasked, value) and not unasked.requires_grad


@pytest.mark.parametrize("law", [ZeroInflatedNegativeBinomial, BackgroundForeground])
def test_a_mixture_that_is_shut_is_the_negative_binomial(law: type[AbstractCounts]) -> None:
    mixture, plain = said(law), said(NegativeBinomial)
    own = vars(plain)
    shut = law(**vars(mixture) | {name: own[name] for name in own} | {"logit": torch.full((MOLECULES,), -torch.inf)})
    torch.testing.assert_close(shut.log_prob(counts()), plain.log_prob(counts()))
    torch.testing.assert_close(shut.shares(), plain.shares())
    weights = torch.ones(NODES), torch.ones(MOLECULES)
    y = counts().to_sparse_csr()
    torch.testing.assert_close(shut.nll(y, *weights), plain.nll(y, *weights))
    opened = mixture.nll(y, *weights)
    assert not torch.allclose(opened, plain.nll(y, *weights), rtol=1e-3)


def test_the_mean_profile_is_the_best_constant() -> None:
    torch.manual_seed(1)
    share = torch.tensor([0.5, 0.3, 0.2])
    y = torch.distributions.Multinomial(200, share).sample((300,)).to_sparse_csr()

    def loss(profile: Tensor) -> Tensor:
        nothing, of_all = torch.zeros(300, 1), torch.zeros(300, dtype=torch.long)
        depth = torch.full((300,), 200.0)
        one = NegativeBinomial(nothing, torch.zeros(3, 1), profile.log()[None], of_all, depth, torch.full((3,), 5.0))
        return one.nll(y, torch.ones(300), torch.ones(3))

    assert loss(share) < loss(torch.tensor([0.4, 0.4, 0.2]))


def test_the_depth_of_open_regions_gives_back_their_number() -> None:
    """Of a deep cell many regions are full: as many counts as open regions would open too few."""
    rng = np.random.default_rng(0)
    profile = rng.dirichlet(np.full(200, 0.5), size=2)
    number, section = np.array([0.0, 3.0, 40.0, 120.0]), np.array([0, 1, 0, 1])
    depth = depth_of_open(number, section, profile)
    opened = (1 - np.exp(-depth[:, None] * profile[section])).sum(axis=1)
    np.testing.assert_allclose(opened, number, rtol=0.02, atol=0.05)
    assert depth[3] > 1.5 * number[3]
