"""Distributions against torch's own and scipy's; what they draw has their mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from aivc_graph.operators.measurement.distribution import AbstractDistribution, NegativeBinomial, Normal, StudentT

NODES, MOLECULES = 40, 6


def negative_binomial() -> NegativeBinomial:
    torch.manual_seed(0)
    z, weight = torch.randn(NODES, 2, dtype=torch.float64), torch.randn(MOLECULES, 2, dtype=torch.float64)
    bias, section = torch.randn(2, MOLECULES, dtype=torch.float64), torch.arange(NODES) % 2
    return NegativeBinomial(
        z, weight, bias, torch.linspace(-1, 2, MOLECULES).double(), section, 50.0 + torch.arange(40.0)
    )


def normal() -> Normal:
    torch.manual_seed(0)
    return Normal(torch.randn(NODES, MOLECULES), torch.linspace(-1, 1, MOLECULES))


def student_t() -> StudentT:
    torch.manual_seed(0)
    return StudentT(torch.randn(NODES, MOLECULES), torch.linspace(-1, 1, MOLECULES), torch.linspace(3, 40, MOLECULES))


def test_log_densities_are_those_of_scipy_and_what_was_not_measured_has_none() -> None:
    values = torch.randn(NODES, MOLECULES) * 3
    for said, of in ((normal(), stats.norm), (student_t(), stats.t)):
        given = {"loc": said.location.numpy(), "scale": said.log_scale.exp().numpy()}
        given |= {"df": said.freedom.numpy()} if isinstance(said, StudentT) else {}
        np.testing.assert_allclose(said.log_prob(values), of.logpdf(values.numpy(), **given), rtol=1e-4, atol=1e-5)
        holes = torch.where(torch.arange(MOLECULES) == 2, torch.nan, values)
        found = said.log_prob(holes)
        assert bool((found[:, 2] == 0).all()) and torch.equal(found[:, 3], said.log_prob(values)[:, 3])


def test_log_probabilities_are_those_of_torch() -> None:
    counts, said = torch.randint(0, 9, (NODES, MOLECULES)).double(), negative_binomial()
    theta = said.log_dispersion.exp()
    peer = torch.distributions.NegativeBinomial(theta, logits=(said.mean() / theta).log())
    torch.testing.assert_close(said.log_prob(counts), peer.log_prob(counts), rtol=1e-6, atol=1e-6)
    values, told = torch.randn(NODES, MOLECULES), normal()
    beside = torch.distributions.Normal(told.location, told.log_scale.exp())
    torch.testing.assert_close(told.log_prob(values), beside.log_prob(values))


@pytest.mark.parametrize(
    "said", [negative_binomial(), normal(), student_t()], ids=["negative binomial", "normal", "student-t"]
)
def test_draws_have_the_mean_that_is_told(said: AbstractDistribution) -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([said.sample(generator) for _ in range(2000)])
    error = (draws.mean(dim=0) - said.mean()).abs() / (draws.std(dim=0) / 2000**0.5)
    assert error.mean() < 1.1 and error.max() < 5.5


def test_molecules_that_were_not_measured_say_nothing_of_the_others() -> None:
    torch.manual_seed(0)
    nodes, genes, latent = 7, 9, 3
    z, weight, bias = torch.randn(nodes, latent), torch.randn(genes, latent), torch.randn(2, genes)
    section, theta = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.randn(genes)
    there = torch.ones(2, genes, dtype=torch.bool)
    there[1, [2, 5, 6]] = False
    counts = torch.poisson(torch.full((nodes, genes), 3.0)) * there[section]
    said = NegativeBinomial(z, weight, bias, theta, section, counts.sum(dim=1), there)
    own = there[1]
    alone = NegativeBinomial(z[3:], weight[own], bias[:, own], theta[own], section[3:], counts[3:].sum(dim=1))
    torch.testing.assert_close(said.mean()[3:][:, own], alone.mean())
    torch.testing.assert_close(said.log_prob(counts)[3:][:, own], alone.log_prob(counts[3:][:, own]))
    assert not said.log_prob(counts)[3:][:, ~own].any()
    torch.testing.assert_close((said.mean() * there[section]).sum(dim=1), counts.sum(dim=1))
    node, gene = torch.tensor([0.0, 0, 0, 1, 1, 0, 1]), torch.ones(genes)
    gene[[0, 2]] = 0
    dense = float(-(node @ (said.log_prob(counts) @ gene)))
    assert float(said.nll(counts.to_sparse_csr(), node, gene)) == pytest.approx(dense, rel=1e-4)
    assert said.number(node, gene) == 3 * 5
    torch.testing.assert_close(said.shares().sum(dim=1), torch.ones(nodes))
