"""Metrics of responses against hand-worked values and independent implementations; perfect is best, collapse is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist, cosine
from scipy.stats import pearsonr

from aivc_graph.evaluation.metrics.interactions import KINDS, kinds
from aivc_graph.evaluation.metrics.metric import METRICS, metric
from aivc_graph.evaluation.responses.asking import OF_CELLS, OF_PAIRS, OF_PROFILES
from aivc_graph.evaluation.responses.differential import Differential
from aivc_graph.evaluation.responses.spread import Space
from aivc_graph.evaluation.responses.views import Measured, Predicted, Replicates

N, GENES = 12, 60
ALL = (*OF_PROFILES, *OF_PAIRS, *OF_CELLS)


def case(seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    control = np.repeat(rng.random((1, GENES)) * 4, N, axis=0)
    effect = rng.normal(size=(N, GENES))
    alone = rng.normal(size=(N, 2, GENES))
    effect[::2] = 0.6 * alone[::2].sum(axis=1) + 0.1 * effect[::2]  # every other pair is weaker than its sum
    own = np.zeros((N, GENES), bool)
    own[np.arange(N), np.arange(N)] = True
    variance = np.full((N, GENES), 0.01)
    significant = rng.random((N, GENES)) < 0.5
    points = tuple(rng.normal(size=(30, 3)) + 3 * i for i in range(N))
    return Measured(
        profile=control + effect,
        control=control,
        reference=control + effect.mean(axis=0),
        variance=variance,
        control_variance=variance,
        distinction=effect * 5,
        own=own,
        target=own.any(axis=0),
        context=np.zeros(N, int),
        alone=alone,
        differential=Differential(significant, effect),
        space=Space(points, np.array([1.0, 2.0])),
    )


def value(name: str, predicted: Predicted | Replicates, measured: Measured) -> float:
    judge, rows = metric(name), len(measured)
    return judge.value(judge.statistics(predicted, measured, np.arange(rows), rows, np.zeros(rows)).sum(axis=0))


def perfect(measured: Measured) -> Predicted:
    return Predicted(measured.profile, None, measured.differential, measured.space)


def by_row(name: str, predicted: Predicted, measured: Measured) -> np.ndarray:
    judge = metric(name)
    found = judge.statistics(predicted, measured, np.arange(len(measured)), len(measured), np.zeros(len(measured)))
    return found[:, 0] / found[:, 1]


@pytest.mark.parametrize("name", ALL)
def test_perfect_is_best_and_another_condition_is_worse(name: str) -> None:
    true = case()
    facts, order = METRICS.facts[name], np.roll(np.arange(N), 1)
    best = value(name, perfect(true), true)
    if name not in ("unbiased_mse_ratio", "energy_distance", "mmd_rbf"):  # unbiased: a little below their best
        assert best == pytest.approx(facts["best"], abs=1e-9)
    assert true.differential is not None and true.space is not None
    other = Predicted(
        true.profile[order],
        None,
        Differential(true.differential.significant[order], true.differential.lfc[order]),
        Space(tuple(true.space.points[i] for i in order), true.space.bandwidths),
    )
    worse = value(name, other, true)
    assert worse < best - 0.1 if facts["higher_is_better"] else worse > best + 0.1


@pytest.mark.parametrize(
    ("name", "score"),
    [("pearson_delta_profile", -1.0), ("systema_delta", -1.0), ("pds_cosine", 0.5), ("interaction", 0.0)],
)
def test_what_says_nothing_of_the_condition_has_its_fixed_score(name: str, score: float) -> None:
    true = case()
    said = {"systema_delta": true.reference, "interaction": true.control + true.additive}.get(name, true.control)
    assert value(name, Predicted(said), true) == score


def test_predictions_all_alike_are_at_chance() -> None:
    true = case()
    alike = Predicted(true.control + 2 * np.random.default_rng(5).normal(size=GENES))
    assert value("pds_cosine", alike, true) == pytest.approx(0.5)
    assert value("centroid_accuracy", alike, true) == pytest.approx(0.5, abs=0.02)  # each leaves out its own gene


def test_correlations_are_those_of_scipy_without_the_perturbed_gene() -> None:
    true, rng = case(), np.random.default_rng(1)
    said = Predicted(true.profile + rng.normal(size=true.profile.shape))
    for name, origin in (("pearson_delta_profile", true.control), ("systema_delta", true.reference)):
        found = by_row(name, said, true)
        for i in range(N):
            kept = np.arange(GENES) != i
            expected = pearsonr((said.profile - origin)[i, kept], (true.profile - origin)[i, kept])[0]
            assert found[i] == pytest.approx(expected)
    top = np.argsort(-np.where(true.own, 0, np.abs(true.effect)), axis=1)[:, :20]
    expected = [
        pearsonr((said.profile - true.reference)[i, k], (true.profile - true.reference)[i, k])[0]
        for i, k in enumerate(top)
    ]
    np.testing.assert_allclose(by_row("systema_delta_top20", said, true), expected)


def test_discrimination_by_brute_force() -> None:
    true, rng = case(), np.random.default_rng(2)
    said = Predicted(true.profile + 3 * rng.normal(size=true.profile.shape))
    kept = ~true.target
    d, e = said.profile - true.control, true.effect
    for i in range(N):
        by_cosine = [cosine(d[i, kept], e[q, kept]) for q in range(N)]
        k = sum(by_cosine[q] < by_cosine[i] for q in range(N) if q != i)
        assert by_row("pds_cosine", said, true)[i] == pytest.approx(1 - k / (N - 1))
        l1 = np.abs(d[i, kept] - e[:, kept]).sum(axis=1)
        assert by_row("pds_l1_2025", said, true)[i] == pytest.approx(1 - (l1 < l1[i]).sum() / N)
        own = np.arange(GENES) != i
        far = np.linalg.norm((said.profile[i] - true.profile)[:, own], axis=1)
        assert by_row("centroid_accuracy", said, true)[i] == pytest.approx((far > far[i]).sum() / (N - 1))
        back = np.linalg.norm((said.profile - true.profile[i])[:, own], axis=1)
        assert by_row("perturbench_rank", said, true)[i] == pytest.approx((back < back[i]).sum() / N)


def test_only_conditions_of_the_same_context_compete() -> None:
    true = case()
    apart = replace(true, context=np.arange(N))
    assert np.isnan(value("pds_cosine", perfect(apart), apart))
    assert np.isnan(value("centroid_accuracy", perfect(apart), apart))


def test_called_genes_by_hand() -> None:
    true = case()
    lfc = np.zeros((N, GENES))
    lfc[:, 20:30] = np.arange(10, 0, -1)
    called = np.zeros((N, GENES), bool)
    called[:, 20:30] = True
    said_lfc = lfc.copy()
    said_lfc[:, 29] = -100.0  # ranked first, and of the wrong sign
    said_called = called.copy()
    said_called[:, 20:24], said_called[:, 40:44] = False, True
    measured = replace(true, differential=Differential(called, lfc))
    said = Predicted(true.profile, None, Differential(said_called, said_lfc))
    assert value("des_overlap", said, measured) == pytest.approx(6 / 10)
    assert value("sig_jaccard", said, measured) == pytest.approx(6 / 14)
    assert value("direction_fidelity", said, measured) == pytest.approx(5 / 10)
    assert value("direction_reach", said, measured) == pytest.approx(1.0)  # 9 of 10 are right
    assert value("lfc_nmae", said, measured) == pytest.approx(101 / 55)
    nothing = Predicted(true.profile, None, Differential(np.zeros_like(called), np.zeros_like(lfc)))
    assert value("lfc_nmae", nothing, measured) == pytest.approx(1.0)
    assert value("direction_reach", nothing, measured) == 0.0
    none = replace(true, differential=Differential(np.zeros_like(called), lfc))
    assert value("sig_jaccard", nothing, none) == 1.0 and np.isnan(value("des_overlap", nothing, none))


def test_squared_error_beyond_noise_is_unbiased() -> None:
    rng, noise = np.random.default_rng(3), 0.3
    true = case()
    effect = rng.normal(size=(N, GENES))
    repeats = []
    for _ in range(300):
        b = true.control + effect + noise * rng.normal(size=(N, GENES))
        measured = replace(
            true, profile=b, variance=np.full((N, GENES), noise**2), control_variance=np.zeros((N, GENES))
        )
        repeats.append(value("unbiased_mse_ratio", Predicted(true.control + effect), measured))
    assert np.mean(repeats) == pytest.approx(0.0, abs=2e-3)
    assert value("unbiased_mse_ratio", Predicted(true.control), replace(true, control_variance=0 * true.variance)) == (
        pytest.approx(1.0)
    )


def test_noise_claimed_by_a_collapsed_prediction_earns_nothing() -> None:
    true = case()
    alike = true.control + true.effect.mean(axis=0)
    honest, boastful = Predicted(alike), Predicted(alike, np.full(alike.shape, 100.0))
    assert value("unbiased_mse_ratio", boastful, true) == pytest.approx(value("unbiased_mse_ratio", honest, true))


def test_credit_for_noise_is_bounded_by_how_far_predictions_differ() -> None:
    true, rng = case(), np.random.default_rng(5)
    said = Predicted(true.control + 0.02 * rng.normal(size=(N, GENES)), np.full((N, GENES), 0.7))
    true = replace(true, variance=np.full((N, GENES), 0.2))
    claims, errors, effects, spread = [], [], [], 0.0
    for p in range(N):
        own = ~true.own[p]
        claims.append(min(said.variance[p, own].sum(), true.variance[p, own].sum()) / own.sum())
        errors.append((((said.profile - true.profile)[p, own] ** 2).sum() - true.variance[p, own].sum()) / own.sum())
        noise = true.variance[p, own] + true.control_variance[p, own]
        effects.append((true.effect[p, own] ** 2 - noise).sum() / own.sum())
    share = np.array([1 / (~true.own[p]).sum() for p in range(N)])
    for one in np.unique(true.context):
        for g in range(GENES):
            rows = np.flatnonzero(~true.own[:, g] & (true.context == one))
            if len(rows) > 1:
                mean = np.average(said.profile[rows, g], weights=share[rows])
                spread += (share[rows] * (said.profile[rows, g] - mean) ** 2).sum()
    credit = min(1.0, spread / sum(claims))
    assert 0 < credit < 1
    expected = (sum(errors) - credit * sum(claims)) / sum(effects)
    assert value("unbiased_mse_ratio", said, true) == pytest.approx(expected)


def test_weights_lead_where_a_condition_stands_out() -> None:
    true = case()
    weight = np.where(true.own, 0, np.abs(true.distinction))
    expected = (weight / weight.sum(axis=1, keepdims=True) * true.effect**2).sum(axis=1).mean()
    assert value("wmse", Predicted(true.control), true) == pytest.approx(expected)
    assert value("r2_weighted", Predicted(true.reference), true) == pytest.approx(0.0)


def test_distances_of_sets_by_brute_force() -> None:
    true = case()
    assert true.space is not None
    rng = np.random.default_rng(4)
    said = tuple(rng.normal(size=(20, 3)) for _ in range(N))
    energy, mmd = [], []
    for x, y in zip(said, true.space.points, strict=True):
        pairs = {(a, b): cdist(u, v) for a, u in (("x", x), ("y", y)) for b, v in (("x", x), ("y", y))}
        mean = {k: d.sum() / (d.size if k[0] != k[1] else len(d) * (len(d) - 1)) for k, d in pairs.items()}
        energy.append(2 * mean["x", "y"] - mean["x", "x"] - mean["y", "y"])
        kernels = {k: np.mean([np.exp(-(d**2) / (2 * s * s)) for s in (1.0, 2.0)], axis=0) for k, d in pairs.items()}
        within = sum(
            (kernels[a, a].sum() - len(kernels[a, a])) / (len(kernels[a, a]) * (len(kernels[a, a]) - 1)) for a in "xy"
        )
        mmd.append(within - 2 * kernels["x", "y"].mean())
    predicted = Predicted(true.profile, space=Space(said, true.space.bandwidths))
    assert value("energy_distance", predicted, true) == pytest.approx(np.mean(energy))
    assert value("mmd_rbf", predicted, true) == pytest.approx(np.mean(mmd))


def test_two_draws_of_the_same_cells_are_at_no_distance_on_average() -> None:
    rng, found = np.random.default_rng(6), []
    true = case()
    for _ in range(60):
        points = [Space(tuple(rng.normal(size=(25, 3)) for _ in range(N)), np.array([1.0])) for _ in range(2)]
        pair = Predicted(true.profile, space=points[0]), replace(true, space=points[1])
        found.append([value("energy_distance", *pair), value("mmd_rbf", *pair)])
    np.testing.assert_allclose(np.mean(found, axis=0), 0.0, atol=0.01)


def test_samples_closer_than_the_true_match() -> None:
    x = np.array([[0.0], [1.0], [5.0]])
    judge = metric("foscttm")
    found = judge.statistics(x, np.array([[0.0], [6.0], [1.0]]), np.arange(3), 3, np.zeros(3))
    # forwards: 0, 2 and 2 closer of 2 others; backwards: 0, 1 and 2.
    assert judge.value(found.sum(axis=0)) == pytest.approx(
        (np.array([0, 2, 1]) / 2 + np.array([0, 1, 2]) / 2).mean() / 2
    )
    nothing = judge.statistics(np.zeros((3, 1)), x, np.arange(3), 3, np.zeros(3))
    assert judge.value(nothing.sum(axis=0)) == 0.5


def test_replicates_are_averaged_and_brought_to_full_depth() -> None:
    true, rng = case(), np.random.default_rng(7)
    halves = [Predicted(true.profile + rng.normal(size=true.profile.shape)) for _ in range(3)]
    pairs = tuple((half, true) for half in halves)
    every = np.ones(len(true), bool)
    r = np.stack([by_row("pearson_delta_profile", half, true) for half in halves])
    assert value("pearson_delta_profile", Replicates(pairs, every), true) == pytest.approx(r.mean())
    full = value("pearson_delta_profile", Replicates(pairs, every, full_depth=True), true)
    assert full == pytest.approx((2 * r / (1 + r))[r > 0].mean())
    assert np.isnan(value("mse_delta", Replicates(pairs, every, full_depth=True), true))


def test_kinds_of_interactions_by_construction() -> None:
    rng, true = np.random.default_rng(8), case()
    a, b, new = rng.normal(size=(3, GENES))
    made = {
        "additive": a + b,
        "weaker": 0.5 * (a + b),
        "stronger": 2 * (a + b),
        "one leads": a + 0.1 * b,
        "new": 3 * new,
    }
    measured = replace(true, alone=np.broadcast_to(np.stack([a, b]), (N, 2, GENES)).copy())
    for kind, effect in made.items():
        assert {KINDS[k] for k in kinds(np.broadcast_to(effect, (N, GENES)), measured)} == {kind}
    unknown = replace(measured, alone=np.full((N, 2, GENES), np.nan))
    assert (kinds(true.effect, unknown) == -1).all()
    assert np.isnan(value("interaction_class", perfect(unknown), unknown))
    twice = Predicted(true.control + true.additive + 2 * (true.effect - true.additive))
    assert value("interaction_size", twice, true) == pytest.approx(1.0)
    assert np.isnan(value("interaction_size", Predicted(true.control + true.additive), true))
