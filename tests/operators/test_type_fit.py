"""Where classes of nodes lie: apart by axes of their own, at the mean of their states, and who is told from whom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph.operators.measurement.categorical import RULES, TURNS, CategoricalMeasurement, TypeInput, TypePlan
from aivc_graph.operators.measurement.type_fit import (
    ALONE,
    LEAST_ROWS,
    LEFT_OPEN,
    OWN,
    fit_class_means,
    fit_places,
    told_by_turns,
)
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Fold, Inputs, State

TYPES, N, LATENT = ("a", "b", "c", "d"), 200, 3
KIND = np.arange(N) % 4


def part(first: bool = True, latent: int = LATENT) -> CategoricalMeasurement:
    return CategoricalMeasurement(
        TypePlan(level="cell", modality="type", names=TYPES, latent=latent, first=first, maker="", n_own=0)
    )


def labels(mask: np.ndarray | None = None) -> TypeInput:
    onehot = torch.eye(4)[torch.from_numpy(KIND)]
    known = torch.ones(N) if mask is None else torch.from_numpy(mask).float()
    return TypeInput(
        onehot * known[:, None], torch.zeros(N, dtype=torch.int64), known, pd.Index([f"c{i}" for i in range(N)])
    )


def window(data: TypeInput, rings: list[SparseOperator] | None = None) -> Inputs:
    place = torch.arange(N) // 100
    by_part: dict[tuple[str, ...], Any] = {("measurement", "cell", "type"): data}
    if rings is not None:
        by_part["relation", "cell", "near", "cell"] = rings
    nothing = torch.zeros(N, dtype=torch.int64)
    return Inputs({"cell": N}, {"cell": nothing}, {"cell": nothing}, {"cell": place}, by_part)


def fitting_of(z: np.ndarray, data: TypeInput, own: torch.Tensor | None = None) -> Any:
    """Return what a fit may look at: states that are given, whatever is hidden of them."""
    state = State(z={"cell": torch.from_numpy(z).float()}, own={"cell": torch.ones(N) if own is None else own})
    model = SimpleNamespace(encode=lambda inputs, hidden: state)
    return SimpleNamespace(model=model, training=[Fold(window(data), {"cell": torch.ones(N)})])


@pytest.mark.parametrize("latent", [2, 3, 5])
def test_classes_lie_as_their_labels_do_and_their_mean_is_the_middle(latent: int) -> None:
    made, share = part(latent=latent), torch.tensor([0.4, 0.3, 0.2, 0.1])
    made.prior.copy_(share)
    fit_places(made)
    torch.testing.assert_close(share @ made.loading, torch.zeros(latent), atol=1e-6, rtol=0)
    onehot = np.eye(4) - share.numpy()
    moment = onehot.T @ np.diag(share.numpy()) @ onehot
    values = np.sort(np.linalg.eigvalsh(moment))[::-1]
    spread = np.asarray((share[:, None] * made.loading.square()).sum(dim=0))
    kept = min(latent, 3)
    np.testing.assert_allclose(spread[:kept], values[:kept], rtol=1e-4)
    assert not spread[3:].any()  # three axes tell four classes apart
    told = np.concatenate([values[:kept], np.full(latent - kept, values[0])])
    np.testing.assert_allclose((-made.log_precision).exp(), LEFT_OPEN * told, rtol=1e-4)
    if latent >= 3:
        apart = torch.cdist(made.loading, made.loading)
        torch.testing.assert_close(apart, 2**0.5 * (1 - torch.eye(4)), atol=1e-4, rtol=0)


def test_classes_lie_at_the_mean_of_their_states_as_surely_as_these_are_alike() -> None:
    rng = np.random.default_rng(0)
    centre, spread = rng.normal(size=(4, LATENT)), np.array([0.1, 0.5, 1.0])
    z = centre[KIND] + spread * rng.normal(size=(N, LATENT))
    made = part(first=False)
    fit_class_means(made, fitting_of(z, labels()))
    np.testing.assert_allclose(made.loading, centre, atol=0.5)
    mean = np.stack([(z[c == KIND].sum(axis=0) + z.mean(axis=0)) / (50 + 1) for c in range(4)])
    np.testing.assert_allclose(made.loading, mean, atol=1e-5)
    np.testing.assert_allclose((-0.5 * made.log_precision).exp(), spread, rtol=0.15)
    torch.testing.assert_close(made.encode(labels())[5], made.loading[1])


def test_a_class_without_nodes_lies_in_the_middle_and_few_nodes_fit_nothing() -> None:
    z, known = np.random.default_rng(1).normal(size=(N, LATENT)), KIND != 3
    made = part(first=False)
    fit_class_means(made, fitting_of(z, labels(known)))
    np.testing.assert_allclose(made.loading[3], z[known].mean(axis=0), atol=1e-5)
    few, before = part(first=False), part(first=False)
    fit_class_means(few, fitting_of(z, labels(np.arange(N) < LEAST_ROWS - 1)))
    assert torch.equal(few.loading, before.loading) and torch.equal(few.log_precision, before.log_precision)


def test_nodes_of_which_nothing_else_is_known_do_not_say_where_a_class_lies() -> None:
    z = np.random.default_rng(2).normal(size=(N, LATENT))
    spoilt = np.where(np.arange(N)[:, None] < 50, 1e3, z)
    own = (torch.arange(N) >= 50).float()
    made, plain = part(first=False), part(first=False)
    fit_class_means(made, fitting_of(spoilt, labels(), own))
    fit_class_means(plain, fitting_of(z, labels(), own))
    torch.testing.assert_close(made.loading, plain.loading)


@pytest.mark.parametrize(("hidden", "first", "turns"), [(False, False, 1), (True, False, TURNS), (False, True, TURNS)])
def test_everybody_is_told_once_without_the_label_and_at_once_where_labels_take_no_part(
    hidden: bool, first: bool, turns: int
) -> None:
    made = part(first=first)
    other = SimpleNamespace(key=("cell", "rna"), plan=SimpleNamespace(level="cell"))
    elsewhere = SimpleNamespace(key=("patch", "rna"), plan=SimpleNamespace(level="patch"))
    asked: list[dict[tuple[str, str], torch.Tensor]] = []

    class Model:
        def __call__(self, inputs: Inputs, given: Any) -> State:
            asked.append(given.nodes)
            return State()

        def parts_of(self, kind: str) -> list[Any]:
            return [made, other, elsewhere]

    told = [who for _, who in told_by_turns(made, Model(), window(labels()), hidden=hidden)]
    assert len(told) == turns and torch.equal(sum(told, torch.zeros(N)), torch.ones(N))
    expected = set() if turns == 1 else {made.key, other.key} if hidden else {made.key}
    assert all(set(nodes) == expected for nodes in asked)
    assert all(torch.equal(who, nodes[made.key]) for who, nodes in zip(told, asked, strict=True) if nodes)


def rings() -> list[SparseOperator]:
    """Return two rings on a circle of nodes: those beside each, and those next to these."""
    made = []
    for step in (1, 2):
        dense = torch.zeros(N, N)
        for away in (-step, step):
            dense[torch.arange(N), (torch.arange(N) + away) % N] = 1.0
        made.append(SparseOperator.of(dense.to_sparse_csr()))
    return made


def test_shares_around_are_of_others_that_may_be_seen_and_drawn_towards_wider_ones() -> None:
    made, inputs = part(), window(labels(), rings())
    seen = (torch.arange(N) % 3 > 0).float()
    there, nearest, every = made.shares_around(State(seen={made.key: seen}), inputs)
    visible = torch.eye(4)[torch.from_numpy(KIND)] * seen[:, None]
    node = 7  # seen itself, as is one of the two beside it
    region = visible[:100].sum(dim=0) - visible[node]
    prior = torch.full((4,), 0.25)
    torch.testing.assert_close(there[node], (region + prior) / (region.sum() + 1))
    around = visible[[5, 6, 8, 9]].sum(dim=0)
    torch.testing.assert_close(every[node], (around + there[node]) / (around.sum() + 1))
    beside = visible[[6, 8]].sum(dim=0)
    torch.testing.assert_close(nearest[node], (beside + every[node]) / (beside.sum() + 1))
    for share in (there, nearest, every):
        torch.testing.assert_close(share.sum(dim=1), torch.ones(N))
    nobody = made.shares_around(State(seen={made.key: torch.zeros(N)}), inputs)
    assert all(bool((share == 0.25).all()) for share in nobody)


def test_a_situation_is_what_else_was_seen_and_whether_a_neighbour_bears_a_label() -> None:
    made, inputs = part(), window(labels(np.arange(N) < 100), rings())
    seen = {made.key: torch.ones(N), ("cell", "rna"): (torch.arange(N) % 2).float(), ("patch", "rna"): torch.ones(3)}
    own, around = made.situation(State(seen=seen), inputs)
    assert own.tolist() == [i % 2 for i in range(N)]
    assert torch.nonzero(around == 0).ravel().tolist() == list(range(102, 198))
    assert made.situation(State(seen={made.key: torch.ones(N)}), window(labels()))[1].sum() == 0  # no neighbours


def test_a_label_is_told_by_the_rules_as_far_as_each_is_followed() -> None:
    made, inputs = part(), window(labels(), rings())
    made.prior.copy_(torch.tensor([0.4, 0.3, 0.2, 0.1]))
    state = State(z={"cell": torch.randn(N, LATENT)}, seen={made.key: torch.ones(N)})
    torch.testing.assert_close(made.told(state, inputs), made.prior.expand(N, -1))  # at the start the class prior
    made.rule_share.zero_()
    made.rule_share[0, 1, RULES.index(RULES[2])] = 1.0
    torch.testing.assert_close(made.told(state, inputs), made.shares_around(state, inputs)[1])
    made.rule_share[0, 1] = 1 / len(RULES)
    torch.testing.assert_close(made.told(state, inputs).sum(dim=1), torch.ones(N))
    assert len(RULES) == 8 and max(ALONE) < len(RULES) and set(OWN) < set(ALONE)
