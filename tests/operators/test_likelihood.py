"""The negative binomial against torch's own, and its hand-written gradients against automatic ones."""

from __future__ import annotations

import pytest
import torch

from aivc_graph.operators.measurement import likelihood
from aivc_graph.operators.measurement.likelihood import negative_binomial_nll


def _problem(sections: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    counts = torch.poisson(torch.rand(40, 12) * 3)
    counts[0] = 0
    counts[1, 3] = 500  # beyond the table of small counts
    z, weight = torch.randn(40, 3, requires_grad=True), torch.randn(12, 3, requires_grad=True)
    bias, dispersion = torch.randn(sections, 12, requires_grad=True), torch.randn(12, requires_grad=True)
    node_weight = torch.rand(40)
    node_weight[5] = 0
    molecule = (torch.arange(12) % 3 > 0).float()
    return z, weight, bias, dispersion, counts, torch.arange(40) % sections, node_weight, molecule


def _reference(z, weight, bias, dispersion, counts, section, node_weight, molecule) -> torch.Tensor:
    mu = (torch.softmax(z @ weight.T + bias[section], 1) * counts.sum(1, keepdim=True)).clamp_min(1e-10)
    law = torch.distributions.NegativeBinomial(dispersion.exp(), logits=mu.log() - dispersion)
    return -(node_weight[:, None] * molecule * law.log_prob(counts)).sum()


@pytest.mark.parametrize("sections", [1, 3])
@pytest.mark.parametrize("chunk", [50, 4_000_000])
def test_value_and_gradients_equal_torch_distributions(
    sections: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "CHUNK_ELEMENTS", chunk)
    z, weight, bias, dispersion, counts, *rest = _problem(sections)
    parameters = (z, weight, bias, dispersion)
    ours = negative_binomial_nll(*parameters, counts.to_sparse_csr(), *rest)
    theirs = _reference(*parameters, counts, *rest)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_the_mean_profile_is_the_best_constant() -> None:
    torch.manual_seed(1)
    share = torch.tensor([0.5, 0.3, 0.2])
    counts = torch.distributions.Multinomial(200, share).sample((300,))
    zero = torch.zeros(300, 1), torch.zeros(3, 1)
    rest = (
        torch.full((3,), 5.0),
        counts.to_sparse_csr(),
        torch.zeros(300, dtype=torch.long),
        torch.ones(300),
        torch.ones(3),
    )
    at_truth = negative_binomial_nll(*zero, share.log()[None], *rest)
    elsewhere = negative_binomial_nll(*zero, torch.tensor([[0.4, 0.4, 0.2]]).log(), *rest)
    assert at_truth < elsewhere
