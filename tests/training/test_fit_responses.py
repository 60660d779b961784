"""The operator on a table is the additive rule until left-out conditions say otherwise, and reads training alone."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.training.fit_responses import RULES, Conditions, gates, kind_of, predict_responses, rules

GENES, N_PARTS, NOISE = 80, 7, 0.05


def screen(shape: str, seed: int = 0, n_contexts: int = 1) -> Conditions:
    """Return all singles and all pairs of seven parts; pairs add, saturate, or are 0.6 of the sum."""
    rng = np.random.default_rng(seed)
    alone = rng.normal(size=(N_PARTS, GENES)) * (rng.random((N_PARTS, GENES)) < 0.5)
    parts, effect, context = [], [], []
    for c in range(n_contexts):
        for i in range(N_PARTS):
            for j in range(i, N_PARTS):
                both = alone[[i]] if i == j else alone[[i, j]]
                saturated = both.clip(min=0).max(axis=0) + both.clip(max=0).min(axis=0)
                sums = both.sum(axis=0)
                whole = {"adds": sums, "saturates": saturated, "shrinks": sums if i == j else 0.6 * sums}[shape]
                parts.append(np.isin(np.arange(N_PARTS), (i, j)))
                effect.append(whole + NOISE * rng.normal(size=GENES))
                context.append(c)
    return Conditions(np.array(effect), np.array(parts), np.array(context), np.ones(len(parts), bool))


def held_out(given: Conditions, n: int = 4) -> tuple[Conditions, np.ndarray]:
    asked = np.zeros(len(given.train), bool)
    asked[np.flatnonzero(given.parts.sum(axis=1) == 2)[::5][:n]] = True
    return given.without(asked), asked


@pytest.mark.parametrize(("shape", "gain"), [("adds", 0.0), ("saturates", 0.5), ("shrinks", 0.3)])
def test_what_pairs_do_is_found_and_additive_pairs_lose_nothing(shape: str, gain: float) -> None:
    whole = screen(shape)
    given, asked = held_out(whole)
    additive = np.stack([rules(given, row)[0] for row in np.flatnonzero(asked)])
    said, true = predict_responses(given, asked), whole.effect[asked]
    errors = [((one - true) ** 2).mean() for one in (said, additive)]
    assert errors[0] <= (1 - gain) * errors[1] * 1.02


def test_with_few_pairs_it_is_the_additive_rule_itself() -> None:
    whole = screen("saturates")
    pairs = np.flatnonzero(whole.parts.sum(axis=1) == 2)
    asked = np.zeros(len(whole.train), bool)
    asked[pairs[0]] = True
    left = np.zeros(len(whole.train), bool)
    left[np.r_[pairs[0], pairs[4:]]] = True
    given = whole.without(left)
    np.testing.assert_array_equal(predict_responses(given, asked)[0], rules(given, pairs[0])[0])
    i, j = np.flatnonzero(whole.parts[pairs[0]])
    single = [np.flatnonzero((whole.parts.sum(axis=1) == 1) & whole.parts[:, k])[0] for k in (i, j)]
    np.testing.assert_allclose(rules(given, pairs[0])[0], whole.effect[single].sum(axis=0))


def test_effects_that_are_not_trained_on_are_not_read() -> None:
    whole = screen("saturates", n_contexts=2)
    given, asked = held_out(whole)
    blind = Conditions(np.where(given.train[:, None], given.effect, np.nan), given.parts, given.context, given.train)
    np.testing.assert_array_equal(predict_responses(blind, asked), predict_responses(given, asked))


def test_parts_never_seen_fall_back_on_the_mean_of_all_parts() -> None:
    whole = screen("adds")
    touched = whole.parts[:, 0]
    given, row = whole.without(touched), int(np.flatnonzero(touched & (whole.parts.sum(axis=1) == 1))[0])
    assert kind_of(given, row) == (1, 1, True)
    single = given.train & (given.parts.sum(axis=1) == 1)
    np.testing.assert_allclose(rules(given, row)[0], whole.effect[single].mean(axis=0))


def test_gates_are_shares_that_start_at_the_additive_rule() -> None:
    given, _ = held_out(screen("saturates"))
    found = gates(given, (2, 0, True))
    assert (found >= 0).all() and found.sum() == pytest.approx(1.0)
    assert found[RULES.index("saturating")] > 0.8
    np.testing.assert_array_equal(gates(given, (3, 0, True)), np.eye(len(RULES))[0])


def test_a_new_context_is_told_from_the_others() -> None:
    whole = screen("adds", n_contexts=3)
    asked = whole.context == 2
    said = predict_responses(whole.without(asked), asked)
    assert ((said - whole.effect[asked]) ** 2).mean() < 4 * NOISE**2
