"""Distributions against torch's own; what they draw has their mean."""

from __future__ import annotations

import pytest
import torch

from aivc_graph.operators.measurement.distribution import AbstractDistribution, Normal
from tests.operators.test_likelihood import LAWS, said

NODES, MOLECULES = 40, 6


def normal() -> Normal:
    torch.manual_seed(0)
    return Normal(torch.randn(NODES, MOLECULES), torch.linspace(-1, 1, MOLECULES))


def test_log_probabilities_are_those_of_torch() -> None:
    values, told = torch.randn(NODES, MOLECULES), normal()
    beside = torch.distributions.Normal(told.location, told.log_scale.exp())
    torch.testing.assert_close(told.log_prob(values), beside.log_prob(values))


@pytest.mark.parametrize("one", [*map(said, LAWS), normal()], ids=[*(law.__name__ for law in LAWS), "normal"])
def test_draws_have_the_mean_that_is_told(one: AbstractDistribution) -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([one.sample(generator) for _ in range(2000)])
    error = (draws.mean(dim=0) - one.mean()).abs() / (draws.std(dim=0) / 2000**0.5).clamp_min(1e-3)
    assert error.mean() < 1.1 and error.max() < 6.5


@pytest.mark.parametrize("one", [*map(said, LAWS), normal()], ids=[*(law.__name__ for law in LAWS), "normal"])
def test_some_nodes_alone_are_told_the_same(one: AbstractDistribution) -> None:
    rows = torch.tensor([7, 2, 30])
    torch.testing.assert_close(one.at(rows).mean(), one.mean()[rows])
