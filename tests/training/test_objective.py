"""Sums of terms over windows, shares of their gradients, edges between molecules, and what settings refuse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import sparse
from torch import nn

from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.training.draws import Draws
from aivc_graph.training.objective import Objective
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.training.terms.prior import _edge_nll, _edges
from aivc_graph.training.terms.term import Loss, prior_variance

RNA, ADT = ("cell", "rna"), ("cell", "adt")


def loss(**of: tuple[float, float, float]) -> Loss:
    """Return the sum, the number and the weight by modality."""
    made = Loss()
    for name, (total, number, weight) in of.items():
        key = ("cell", name)
        made.total[key], made.number[key], made.weight[key] = torch.tensor(total), number, weight
    return made


def test_a_mean_is_of_what_was_measured_each_with_its_weight() -> None:
    found = loss(rna=(6.0, 3.0, 1.0), adt=(10.0, 5.0, 0.5), atac=(0.0, 0.0, 1.0))
    assert float(found.mean()) == pytest.approx(2.0 + 0.5 * 2.0)
    assert found.measured and not loss(rna=(0.0, 0.0, 1.0)).measured and not Loss().measured
    assert float(Loss().mean()) == 0.0


def test_windows_add_up_as_if_they_were_one() -> None:
    whole = Loss()
    for part in (loss(rna=(6.0, 3.0, 1.0)), loss(rna=(1.0, 4.0, 1.0), adt=(2.0, 1.0, 0.5))):
        whole.add(part)
    assert float(whole.mean()) == pytest.approx(7.0 / 7.0 + 0.5 * 2.0)
    assert not whole.total[RNA].requires_grad and whole.total[RNA].dtype == torch.float64
    grown = loss(rna=(6.0, 3.0, 1.0))
    grown.total[RNA].requires_grad_()
    whole.add(grown)
    assert whole.total[RNA].grad_fn is None


def objective(**weights: float) -> Objective:
    """Return an objective of stand-ins: only weights and terms' losses matter here."""
    made = Objective.__new__(Objective)
    nn.Module.__init__(made)
    made.weights = weights
    return made


def test_the_value_is_the_weighted_sum_of_terms() -> None:
    losses = {"likelihood": loss(rna=(6.0, 3.0, 1.0)), "kl": loss(rna=(9.0, 3.0, 1.0))}
    assert float(objective(likelihood=1.0, kl=0.1).value(losses)) == pytest.approx(2.3)


def test_shares_are_of_the_norms_of_weighted_gradients() -> None:
    at, other = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(2), requires_grad=False)
    first, second = Loss(), Loss()
    first.total[RNA], second.total[RNA] = at.sum(), 0.5 * at.square().sum()  # gradients of norm √2 and 5
    for one in (first, second):
        one.number[RNA], one.weight[RNA] = 1.0, 1.0
    found = objective(likelihood=1.0, kl=2.0).shares({"likelihood": first, "kl": second}, [at, other])
    assert found["kl"] == pytest.approx(10 / (10 + 2**0.5)) and sum(found.values()) == pytest.approx(1.0)
    assert objective(likelihood=3.0).shares({}, [at]) == {"likelihood": 1.0}
    flat = {name: loss(rna=(1.0, 1.0, 1.0)) for name in ("likelihood", "kl")}
    assert objective(likelihood=1.0, kl=1.0).shares(flat, [at]) == {"likelihood": 0.0, "kl": 0.0}


def test_terms_without_weight_are_not_made() -> None:
    config = TrainingConfig(objective={"kl": 0.5, "likelihood": 0.0, "alignment": 0.0})
    made = Objective(TissueGraph(), config)
    assert list(made.terms) == ["kl"] and made.draws
    assert not Objective(TissueGraph(), TrainingConfig()).draws


def graph_of(weight: np.ndarray, sign: list[float] | None = None) -> TissueGraph:
    graph = TissueGraph()
    relation = graph["gene", "regulates", "gene"]
    relation.adj_t = to_torch_csr(sparse.csr_matrix(weight.astype(np.float32)))
    if sign is not None:
        relation["sign"] = torch.tensor(sign)
    return graph


def test_edges_are_read_with_their_sign() -> None:
    weight = np.array([[0, 2.0, 0], [0, 0, 0], [1.0, 0.5, 0]])
    source, target, found = _edges(graph_of(weight), ("gene", "regulates", "gene"))
    assert (source.tolist(), target.tolist(), found.tolist()) == ([1, 0, 1], [0, 2, 2], [2.0, 1.0, 0.5])
    signed = _edges(graph_of(weight, [1.0, -1.0, 1.0]), ("gene", "regulates", "gene"))[2]
    assert signed.tolist() == [2.0, -1.0, 0.5]


def test_edges_want_molecules_to_go_together_or_apart_and_leave_out_those_without_a_vector() -> None:
    x = torch.tensor([[3.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [torch.nan, torch.nan]])

    def nll(source: list[int], target: list[int], weight: list[float]) -> tuple[float, float]:
        edges = torch.tensor(source), torch.tensor(target), torch.tensor(weight)
        value, number = _edge_nll(x, x, edges, torch.Generator().manual_seed(0))
        return float(value), number

    together, apart, wanted = nll([0], [1], [1.0])[0], nll([0], [2], [1.0])[0], nll([0], [2], [-1.0])[0]
    # One edge is its own chance: it says −log σ(9) − log σ(−9), however it is signed.
    assert together == pytest.approx(apart, rel=1e-4) and wanted == pytest.approx(together, rel=1e-4)
    good, bad = nll([0, 1, 2], [1, 0, 2], [1.0, 1.0, 1.0])[0], nll([0, 1, 2], [2, 2, 1], [1.0, 1.0, 1.0])[0]
    assert good < bad
    assert nll([0, 3], [1, 1], [2.0, 5.0]) == pytest.approx((2 * together, 2.0), rel=1e-4)


def test_the_prior_of_states_is_that_of_the_factor_model_or_standard_normal() -> None:
    variance = torch.tensor([4.0, 0.25])
    makers = {"cell": SimpleNamespace(variance=variance)}
    model: Any = SimpleNamespace(latent=2, state_maker=makers.get)
    torch.testing.assert_close(prior_variance(model, "cell"), variance)
    torch.testing.assert_close(prior_variance(model, "patch"), torch.ones(2))


def test_choices_differ_between_epochs_and_seeds_and_not_between_runs() -> None:
    def drawn(seed: int, *epoch: int) -> tuple[float, float]:
        draws = Draws.of(seed, *epoch)
        return float(draws.hidden.random()), float(torch.rand((), generator=draws.states))

    assert drawn(0, 1) == drawn(0, 1) and drawn(0) == drawn(0)
    several = [drawn(seed, *epoch) for seed in (0, 1) for epoch in ((1,), (2,), ())]
    assert all(len(set(one)) == 6 for one in zip(*several, strict=True))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objective": {"likelyhood": 1.0}}, "likelihood"),
        ({"objective": {"likelihood": 0.0}}, "every term has weight 0"),
        ({"objective": {"kl": -1.0}}, "greater than or equal to 0"),
        ({"objective": {"kl": float("inf")}}, "finite"),
        ({"hidden_nodes": 1.0}, "less than 1"),
        ({"patience": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_of_training_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingConfig(**given)


def test_a_term_that_is_not_named_stays_as_it_is() -> None:
    assert TrainingConfig(objective={"kl": 0.2}).objective == {"likelihood": 1.0, "kl": 0.2}


@pytest.mark.parametrize("rings", [(), (0, 3), (6, 6), (8, 4), (-1,)])
def test_rings_must_grow(rings: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="rings must be positive and grow"):
        ModelConfig(rings=rings)


def test_what_was_chosen_is_told_by_kind() -> None:
    chosen = ModelConfig(measurement={"rna": {"kind": "poisson"}}, lift={"kind": "set_summary"}).chosen
    assert chosen["measurement"] == {"rna": {"kind": "poisson"}} and chosen["lift"] == {"kind": "set_summary"}
    assert chosen["propagator"] == {"kind": "hill_relaxation"} and chosen["relation"] == {}
