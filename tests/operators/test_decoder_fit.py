"""Decoders by maximum likelihood: what was drawn comes back, noise gives none, and held-out nodes judge the law."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aivc_graph.operators.measurement import decoder_fit
from aivc_graph.operators.measurement.decoder_fit import Asked, fit_decoder, fit_dispersion, likeliest
from aivc_graph.operators.measurement.distribution import AbstractCounts, negative_binomial_sample
from aivc_graph.operators.measurement.measurement import MeasurementPlan
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement

NODES, GENES, LATENT = 600, 8, 2
TRUE = torch.randn(GENES, LATENT, generator=torch.Generator().manual_seed(5)) * 0.7
TRUE = TRUE - TRUE.mean(dim=0)
PROFILE = torch.linspace(-3.0, -1.0, GENES).log_softmax(dim=0)


def part(log_dispersion: float = 2.0) -> NegativeBinomialMeasurement:
    plan = MeasurementPlan(level="cell", modality="rna", names=tuple(f"g{i}" for i in range(GENES)), latent=LATENT)
    made = NegativeBinomialMeasurement(plan)
    made.log_profile.copy_(PROFILE)
    made.log_dispersion.fill_(log_dispersion)
    return made


def asked(seed: int, weight: torch.Tensor = TRUE, log_dispersion: float = 2.0, there: Any = None) -> Asked:
    """Return nodes of two sections, every molecule of which is hidden, drawn from a decoder of known weights."""
    generator = torch.Generator().manual_seed(seed)
    z, depth = torch.randn(NODES, LATENT, generator=generator), torch.full((NODES,), 200.0)
    share = torch.softmax(z @ weight.t() + PROFILE, dim=1)
    law = torch.full((GENES,), log_dispersion)
    counts = negative_binomial_sample(depth[:, None] * share, law, generator)
    section, everyone = torch.arange(NODES) % 2, torch.ones(NODES)
    return Asked(z, counts.to_sparse_csr(), torch.zeros(2, GENES), section, depth, everyone, torch.ones(GENES), there)


@pytest.fixture(autouse=True)
def closed_form() -> Iterator[None]:
    """Fit as the closed form is fitted, without gradients but those a fit asks for."""
    with torch.no_grad():
        yield


@pytest.fixture
def fitting() -> Any:
    """Return what a fit may look at where something is held out; states and counts are given beside it."""
    return SimpleNamespace(seed=0, training=["training"], held_out=["held out"])


def given(monkeypatch: pytest.MonkeyPatch, training: list[Asked], held_out: list[Asked]) -> None:
    by_fold = {"training": training, "held out": held_out}
    monkeypatch.setattr(decoder_fit, "asked_of", lambda _part, _fitting, folds, _seed: by_fold[folds[0]])


def test_weights_that_were_drawn_from_come_back(monkeypatch: pytest.MonkeyPatch, fitting: Any) -> None:
    given(monkeypatch, [asked(0)], [asked(1)])
    made = part()
    fit_decoder(made, fitting)
    found = made.weight - made.weight.mean(dim=0)  # a softmax does not mind what is added to all
    assert float((found - TRUE).square().mean().sqrt()) < 0.1 * float(TRUE.square().mean().sqrt())


def test_a_state_that_tells_nothing_gives_no_weights(monkeypatch: pytest.MonkeyPatch, fitting: Any) -> None:
    other = [torch.randn(NODES, LATENT, generator=torch.Generator().manual_seed(seed)) for seed in (7, 8)]
    training, held_out = (replace(asked(seed), z=other[seed]) for seed in (0, 1))
    given(monkeypatch, [training], [held_out])
    made = part()
    fit_decoder(made, fitting)
    assert float(made.weight.square().mean()) < 0.001 * float(TRUE.square().mean())


def test_what_does_not_hold_elsewhere_is_not_kept(monkeypatch: pytest.MonkeyPatch, fitting: Any) -> None:
    given(monkeypatch, [asked(0)], [asked(1, -TRUE)])
    made = part()
    fit_decoder(made, fitting)
    assert not made.weight.any()
    given(monkeypatch, [asked(0)], [asked(1, 0.5 * TRUE)])
    fit_decoder(made, fitting)
    kept = made.weight - made.weight.mean(dim=0)
    assert float((kept * TRUE).sum() / TRUE.square().sum()) == pytest.approx(0.5, abs=0.1)  # as far as it does


def test_dispersion_is_fitted_where_held_out_nodes_like_it_better(
    monkeypatch: pytest.MonkeyPatch, fitting: Any
) -> None:
    given(monkeypatch, [asked(0)], [asked(1)])
    made = part(log_dispersion=-1.0)
    made.weight.copy_(TRUE)
    fit_dispersion(made, fitting)
    torch.testing.assert_close(made.log_dispersion, torch.full((GENES,), 2.0), atol=0.5, rtol=0)
    given(monkeypatch, [asked(0)], [asked(1, log_dispersion=-1.0)])
    other = part(log_dispersion=-1.0)
    other.weight.copy_(TRUE)
    fit_dispersion(other, fitting)
    assert bool((other.log_dispersion == -1.0).all())


def test_without_nodes_nothing_is_fitted(monkeypatch: pytest.MonkeyPatch, fitting: Any) -> None:
    given(monkeypatch, [], [])
    made, before = part(), part()
    fit_decoder(made, fitting)
    fit_dispersion(made, fitting)
    assert torch.equal(made.weight, before.weight) and torch.equal(made.log_dispersion, before.log_dispersion)


def test_without_held_out_groups_other_nodes_judge() -> None:
    one, alone = asked(0), SimpleNamespace(seed=0)
    alone.training = alone.held_out = ["training"]
    made = part()
    learnt = {"log_dispersion": torch.full((GENES,), -1.0)}

    def said(of: Asked, mixture: dict[str, torch.Tensor]) -> AbstractCounts:
        return replace(made.given(of.z, TRUE, of.offset, of.section, of.depth), **mixture)

    def prior(mixture: dict[str, torch.Tensor]) -> torch.Tensor:
        return 0.0 * mixture["log_dispersion"].sum()

    found, better = likeliest(alone, made, [one], learnt, learnt, said, prior)
    assert bool(better.all())
    torch.testing.assert_close(found["log_dispersion"], torch.full((GENES,), 2.0), atol=0.5, rtol=0)
    true = {"log_dispersion": torch.full((GENES,), 2.0)}
    better = likeliest(alone, made, [one], learnt, true, said, prior)[1]
    assert int(better.sum()) <= 1  # than the truth only by chance


def test_what_learns_and_what_judges_are_other_nodes() -> None:
    one = asked(0)
    judges, learners = one.every(3, judge=True), one.every(3, judge=False)
    torch.testing.assert_close(judges.node + learners.node, one.node)
    assert float(judges.node.sum()) == NODES / 3


def test_likelihood_by_molecule_sums_to_that_of_all_and_is_of_what_was_measured() -> None:
    there = torch.ones(2, GENES, dtype=torch.bool)
    there[1, 2] = False
    one = asked(0, there=there)
    dense = one.counts.to_dense() * there[one.section]
    one = replace(one, counts=dense.to_sparse_csr(), molecule=(torch.arange(GENES) != 5).float())
    made = part()
    said = made.given(one.z, TRUE, one.offset, one.section, one.depth)
    each = one.by_molecule(said)
    assert float(each.sum()) == pytest.approx(-float(one.nll_of(said)), rel=1e-4)
    assert float(one.nll(made, TRUE)) == pytest.approx(float(one.nll_of(said)))
    assert float(each[5]) == 0.0
    assert one.number().tolist() == [NODES if i not in (2, 5) else (NODES / 2 if i == 2 else 0) for i in range(GENES)]
    assert replace(one, there=None).number()[2] == NODES
