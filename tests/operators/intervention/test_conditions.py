"""Tables of conditions: how alike contexts and parts are, and predictions of least variance."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.intervention.condition_profiles import DEPTH, profiles_of
from aivc_graph.operators.intervention.conditions import (
    EVERYWHERE,
    Conditions,
    components,
    conditions_of,
    features,
    loadings,
    states_apart,
)
from aivc_graph.operators.intervention.variance_components import best_linear, likenesses, likenesses_known, variances

GENES = 12


def table(contexts: int = 2, seed: int = 0, noise: float = 0.05) -> Conditions:
    """Return four parts alone and in pairs, in each context, the effects of parts adding up; all rows train."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(4, GENES))
    done = [(i,) for i in range(4)] + [(i, j) for i in range(4) for j in range(i)]
    parts = np.array([[part in row for part in range(4)] for row in done] * contexts)
    context = np.repeat(np.arange(contexts), len(done))
    effect = parts @ own + noise * rng.normal(size=(len(parts), GENES))
    untreated = rng.normal(size=(contexts, GENES))
    return conditions_of(effect, parts, context, np.ones(len(parts), bool), np.array([0, 1, -1, 3]), untreated)


def test_profiles_are_of_one_depth_whatever_was_counted() -> None:
    total = np.array([[1.0, 3.0], [10.0, 30.0], [0.0, 0.0]])
    found = profiles_of(total, np.array([1.0, 5.0, 1.0]), True)
    np.testing.assert_allclose(np.expm1(found[0]), DEPTH * np.array([0.25, 0.75]))
    np.testing.assert_allclose(found[0], found[1])
    assert not found[2].any()
    np.testing.assert_allclose(profiles_of(total, np.array([1.0, 5.0, 1.0]), False)[1], [2.0, 6.0])


def test_untreated_states_are_as_far_apart_as_they_do_not_correlate() -> None:
    rng = np.random.default_rng(1)
    state = rng.normal(size=GENES)
    untreated = np.stack([state, 3 * state + 5, -state, np.ones(GENES), np.full(GENES, np.nan)])
    apart = states_apart(untreated)
    assert apart[0, 1] == pytest.approx(0.0, abs=1e-12) and apart[0, 2] == pytest.approx(2.0)
    assert np.isnan(apart[3]).all() and np.isnan(apart[4]).all()  # flat, and never measured


def test_rows_that_do_not_train_are_not_read() -> None:
    whole = table()
    train = np.arange(len(whole.train)) % 3 > 0
    effect = np.where(train[:, None], whole.effect, np.nan)
    found = conditions_of(effect, whole.parts, whole.context, train, whole.panel, whole.untreated)
    assert np.isfinite(found.effect).all() and not found.effect[~train].any()
    np.testing.assert_allclose(found.products, found.effect @ found.effect.T)
    left = whole.without(np.arange(len(train)) < 5)
    assert left.train.sum() == len(train) - 5 and not left.train[:5].any()


def test_components_are_those_of_the_training_effects() -> None:
    given = table()
    axes, sizes = components(given)
    centred = given.effect - given.effect.mean(axis=0)
    np.testing.assert_allclose(sizes[:4], np.linalg.svd(centred)[1][:4], rtol=1e-6)
    np.testing.assert_allclose(np.abs(axes.T @ axes), np.eye(axes.shape[1]), atol=1e-8)


def test_loadings_are_of_parts_on_the_panel_alone() -> None:
    given = table()
    found = loadings(given)
    assert found is not None and not found[2].any() and found[[0, 1, 3]].any(axis=1).all()
    none = conditions_of(given.effect, given.parts, given.context, given.train)
    assert loadings(none) is None and loadings(given.without(np.arange(len(given.train)) > 1)) is None
    both = features(given.parts, found)
    np.testing.assert_allclose(both[5, 4:], found[given.parts[5]].sum(axis=0))
    assert features(given.parts, None).shape == given.parts.shape


def test_rows_learn_where_they_are_asked_about_unless_too_little_is_known_there() -> None:
    given = table()
    here = given.of_its_context(0)
    assert (given.context[here] == 0).all() and here.sum() == 10
    few = given.without((given.context == 0) & (np.arange(len(given.train)) > 1))
    assert few.of_its_context(0).sum() == few.train.sum()  # two rows do not tell parts apart
    missing = given.without((given.context == 0) & given.parts[:, 3])
    assert (missing.of_its_context(3) == missing.train).all()  # what was done is seen elsewhere alone
    seen = np.zeros(3, int)
    for code, some, own in given.of_contexts(np.array([0, 1, 10])):
        seen += some
        assert code in (0, 1) and own.by_context is False
    assert seen.tolist() == [1, 1, 1]
    assert [code for code, *_ in few.of_contexts(np.array([0]))] == [EVERYWHERE]


def test_likenesses_are_covariances_and_say_nothing_of_contexts_where_there_is_one() -> None:
    several, one = table(), table(contexts=1)
    for given in (several, one):
        for kernel in likenesses(given, loadings(given)):
            np.testing.assert_allclose(kernel, kernel.T)
            assert np.linalg.eigvalsh(kernel).min() > -1e-8
    assert len(likenesses(several, None)) > len(likenesses(one, None)) == 3
    alike = np.stack([np.eye(4)])
    known = conditions_of(one.effect, one.parts, one.context, one.train, alike=alike)
    np.testing.assert_allclose(likenesses_known(known)[0], one.parts.astype(float) @ one.parts.T)


def test_what_is_left_out_is_told_by_its_parts() -> None:
    given = table(contexts=1)
    out = np.zeros(len(given.train), bool)
    out[[4, 7]] = True
    left = given.without(out)
    alike = likenesses(left, None)
    shares = best_linear(left, np.flatnonzero(out), alike, variances(left, alike))
    assert not shares[:, out].any()
    told = shares @ left.effect
    errors = [((one - given.effect[out]) ** 2).sum() for one in (told, np.zeros_like(told))]
    assert errors[0] < 0.1 * errors[1]


def test_best_linear_prediction_is_the_textbook_one() -> None:
    given = table(contexts=1)
    train = np.arange(len(given.train)) < 7
    left = given.without(~train)
    alike, variance = likenesses(left, None), np.array([0.1, 0.2, 0.7, 0.3])
    whole = np.tensordot(variance[:-1], alike, 1)
    shares = best_linear(left, np.array([8]), alike, variance)
    textbook = whole[8, :7] @ np.linalg.inv(whole[:7, :7] + 0.3 * np.eye(7))
    np.testing.assert_allclose(shares[0, :7], textbook, atol=1e-10)
    assert (variances(left, alike) > 0).all()
