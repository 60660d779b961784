"""Distributions against torch's own and scipy's; what they draw has their mean."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

from aivc_graph.operators.measurement.distribution import AbstractCounts, AbstractDistribution, Normal, StudentT
from tests.operators.test_likelihood import LAWS, counts, said

NODES, MOLECULES = 40, 6


def normal() -> Normal:
    torch.manual_seed(0)
    return Normal(torch.randn(NODES, MOLECULES), torch.linspace(-1, 1, MOLECULES))


def student_t() -> StudentT:
    torch.manual_seed(0)
    return StudentT(torch.randn(NODES, MOLECULES), torch.linspace(-1, 1, MOLECULES), torch.linspace(3, 40, MOLECULES))


def test_log_densities_are_those_of_scipy_and_what_was_not_measured_has_none() -> None:
    values = torch.randn(NODES, MOLECULES) * 3
    for told, of in ((normal(), stats.norm), (student_t(), stats.t)):
        given = {"loc": told.location.numpy(), "scale": told.log_scale.exp().numpy()}
        given |= {"df": told.freedom.numpy()} if isinstance(told, StudentT) else {}
        np.testing.assert_allclose(told.log_prob(values), of.logpdf(values.numpy(), **given), rtol=1e-4, atol=1e-5)
        holes = torch.where(torch.arange(MOLECULES) == 2, torch.nan, values)
        found = told.log_prob(holes)
        assert bool((found[:, 2] == 0).all()) and torch.equal(found[:, 3], told.log_prob(values)[:, 3])


def test_log_probabilities_are_those_of_torch() -> None:
    values, told = torch.randn(NODES, MOLECULES), normal()
    beside = torch.distributions.Normal(told.location, told.log_scale.exp())
    torch.testing.assert_close(told.log_prob(values), beside.log_prob(values))


DRAWN = [*map(said, LAWS), normal(), student_t()]
NAMES = [type(one).__name__ for one in DRAWN]


@pytest.mark.parametrize("one", DRAWN, ids=NAMES)
def test_draws_have_the_mean_that_is_told(one: AbstractDistribution) -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([one.sample(generator) for _ in range(2000)])
    error = (draws.mean(dim=0) - one.mean()).abs() / (draws.std(dim=0) / 2000**0.5).clamp_min(1e-3)
    assert error.mean() < 1.1 and error.max() < 6.5


@pytest.mark.parametrize("one", DRAWN, ids=NAMES)
def test_some_nodes_alone_are_told_the_same(one: AbstractDistribution) -> None:
    rows = torch.tensor([7, 2, 30])
    torch.testing.assert_close(one.at(rows).mean(), one.mean()[rows])


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_molecules_that_were_not_measured_say_nothing_of_the_others(law: type[AbstractCounts]) -> None:
    one = said(law)
    there = torch.ones_like(one.bias, dtype=torch.bool)
    there[1, [2, 5, 6]] = False
    observed = counts() * there[one.section]
    one = replace(one, there=there, depth=observed.sum(dim=1) + 1)
    own, rows = there[1], torch.nonzero(one.section == 1).ravel()
    named = [field.name for field in fields(law)[-len(one.parameters) :]] if one.parameters else []
    taken = {
        name: value[..., own] if value.shape[-1] == len(own) else value[own]
        for name, value in zip(named, one.parameters, strict=True)
    }
    alone = replace(one.at(rows), there=None, weight=one.weight[own], bias=one.bias[:, own], **taken)
    torch.testing.assert_close(one.mean()[rows][:, own], alone.mean())
    torch.testing.assert_close(one.log_prob(observed)[rows][:, own], alone.log_prob(observed[rows][:, own]))
    assert not one.log_prob(observed)[rows][:, ~own].any()
    torch.testing.assert_close(one.shares().sum(dim=1), torch.ones(len(observed)))
    node, molecule = (torch.arange(len(observed)) % 3 > 0).float(), torch.ones(len(own))
    molecule[[0, 2]] = 0
    dense = float(-(node @ (one.log_prob(observed) @ molecule)))
    assert float(one.nll(observed.to_sparse_csr(), node, molecule)) == pytest.approx(dense, rel=1e-4)
    expected = float((node[:, None] * there[one.section] * molecule).sum())
    assert one.number(node, molecule) == expected
