"""The operator on a table is the additive rule until left-out conditions say otherwise, and reads training alone."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.intervention import condition_rules, condition_stack
from aivc_graph.operators.intervention.condition_rules import additive
from aivc_graph.operators.intervention.condition_stack import (
    RULES,
    Kind,
    Stack,
    Starts,
    answers,
    fit_stack,
    kind_of,
    left_out,
    predict_responses,
    rules,
    weights,
)
from aivc_graph.operators.intervention.conditions import EVERYWHERE, Conditions, conditions_of
from aivc_graph.operators.intervention.variance_components import likenesses, variances

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
    untreated = rng.normal(size=(n_contexts, GENES))
    train = np.ones(len(parts), bool)
    return conditions_of(np.array(effect), np.array(parts), np.array(context), train, untreated=untreated)


def of_states(follows: bool, seed: int = 0, n_contexts: int = 5) -> Conditions:
    """Return eight parts in contexts whose states lie on a line; what parts do `follows` it, or is drawn for each."""
    rng = np.random.default_rng(seed)
    line = np.linspace(-1.0, 1.0, n_contexts)
    untreated = 3 * rng.normal(size=GENES) + line[:, None] * rng.normal(size=GENES)
    shared, slope = rng.normal(size=(2, 8, GENES))
    own = rng.normal(size=(n_contexts, 8, GENES))
    effect = shared + (2 * line[:, None, None] * slope if follows else own)
    parts, context = np.tile(np.eye(8, dtype=bool), (n_contexts, 1)), np.repeat(np.arange(n_contexts), 8)
    told = effect.reshape(-1, GENES) + NOISE * rng.normal(size=(len(parts), GENES))
    return conditions_of(told, parts, context, np.ones(len(parts), bool), untreated=untreated)


def held_out(given: Conditions, n: int = 4) -> tuple[Conditions, np.ndarray]:
    asked = np.zeros(len(given.train), bool)
    asked[np.flatnonzero(given.parts.sum(axis=1) == 2)[::5][:n]] = True
    return given.without(asked), asked


def error(said: np.ndarray, whole: Conditions, asked: np.ndarray) -> float:
    return float(((said - whole.effect[asked]) ** 2).mean())


def rules_of_baselines(given: Conditions, asked: np.ndarray) -> dict[str, np.ndarray]:
    effect = np.where(given.train[:, None], given.effect, np.nan)
    unused, controls = np.zeros((len(asked), 2)), given.untreated[given.context]
    return run_baselines(
        Scene(effect, given.train, given.train, asked, given.context, unused, controls, parts=given.parts), "response"
    )


@pytest.mark.parametrize(("shape", "gain"), [("adds", 0.0), ("saturates", 0.5), ("shrinks", 0.8)])
def test_what_pairs_do_is_found_and_additive_pairs_lose_nothing(shape: str, gain: float) -> None:
    whole = screen(shape)
    given, asked = held_out(whole)
    sums = given.told(additive(given, np.flatnonzero(asked)))
    assert error(predict_responses(given, asked), whole, asked) <= (1 - gain) * error(sums, whole, asked)


@pytest.mark.parametrize("shape", ["adds", "saturates", "shrinks"])
def test_it_is_at_or_below_the_error_of_every_rule_beside_it(shape: str) -> None:
    errors: dict[str, list[float]] = {}
    for seed in (1, 2, 3):
        whole = screen(shape, seed)
        given, asked = held_out(whole)
        answers = rules_of_baselines(given, asked) | {"model": predict_responses(given, asked)}
        for name, said in answers.items():
            errors.setdefault(name, []).append(error(said, whole, asked))
    model = np.mean(errors.pop("model"))
    assert len(errors) >= 9 and model <= 1.02 * min(np.mean(one) for one in errors.values())


def test_what_the_rules_say_is_what_the_baselines_say() -> None:
    given, asked = held_out(screen("saturates", n_contexts=4))
    found = dict(zip(RULES, rules(given, np.flatnonzero(asked)), strict=True))
    beside = rules_of_baselines(given, asked)
    same = {"bilinear ridge": "bilinear_ridge", "kernel ridge": "kernel_ridge", "nearest conditions": "knn"}
    same |= {"same elsewhere": "same_elsewhere", "context mean": "context_mean", "mean": "global_mean"}
    same |= {"nearest context": "nearest_context", "alike contexts": "alike_contexts"}
    same |= {"nothing": "no_change", "additive": "additive", "saturating": "saturating"}
    assert set(RULES) - set(same) == {"best linear", "between amounts"}
    for rule, baseline in same.items():
        np.testing.assert_allclose(found[rule], beside[baseline], atol=1e-12, err_msg=rule)


def test_where_no_pair_was_seen_it_is_the_additive_rule_itself() -> None:
    whole = screen("saturates")
    pair = whole.parts.sum(axis=1) == 2
    asked = np.zeros(len(pair), bool)
    asked[np.flatnonzero(pair)[0]] = True
    given = whole.without(pair)
    i, j = np.flatnonzero(whole.parts[asked][0])
    single = [np.flatnonzero(~pair & whole.parts[:, k])[0] for k in (i, j)]
    np.testing.assert_allclose(predict_responses(given, asked)[0], whole.effect[single].sum(axis=0), atol=1e-12)


def test_variances_tell_what_varies() -> None:
    """Seven parts in all pairs: effects of parts vary by half, what all share and combinations do not."""
    for shape, rest in (("adds", 0.02), ("saturates", 0.3)):
        given = screen(shape)
        found = variances(given, likenesses(given, None))
        assert found[2] == pytest.approx(0.55, abs=0.25) and found[3] < rest


def test_effects_that_are_not_trained_on_are_not_read() -> None:
    whole = screen("saturates", n_contexts=2)
    given, asked = held_out(whole)
    effect = np.where(given.train[:, None], whole.effect, np.nan)
    known = (given.parts, given.context, given.train, given.panel, given.untreated)
    blind, spoilt = (conditions_of(one, *known) for one in (effect, np.nan_to_num(effect, nan=9.0)))
    np.testing.assert_array_equal(predict_responses(spoilt, asked), predict_responses(given, asked))
    np.testing.assert_array_equal(predict_responses(blind, asked), predict_responses(given, asked))


def test_rows_that_neither_train_nor_are_asked_move_nothing() -> None:
    whole = screen("saturates", n_contexts=2)
    here = whole.context == 0
    asked = held_out(whole)[1] & here
    given = conditions_of(whole.effect, whole.parts, whole.context, here & ~asked)
    alone = conditions_of(whole.effect[here], whole.parts[here], whole.context[here], (here & ~asked)[here])
    np.testing.assert_allclose(predict_responses(given, asked), predict_responses(alone, asked[here]), atol=1e-12)


def test_parts_never_seen_fall_back_on_the_mean_of_all_parts() -> None:
    whole = screen("adds")
    touched = whole.parts[:, 0]
    given, row = whole.without(touched), int(np.flatnonzero(touched & (whole.parts.sum(axis=1) == 1))[0])
    assert kind_of(given, row) == (1, 1, True, False)
    single = given.train & (given.parts.sum(axis=1) == 1)
    np.testing.assert_allclose(rules(given, np.array([row]))[0, 0], whole.effect[single].mean(axis=0))


def test_weights_are_shares_and_leave_a_rule_that_tells_nothing() -> None:
    given, asked = held_out(screen("saturates"))
    start = Starts(variances(given, likenesses(given, None)), None)
    products, n, _, opening, knowing = left_out(given, Kind(2, 0, True, False), start)
    assert n == 17 and opening == 1.0 and knowing == 0.0
    for said in rules(given, np.flatnonzero(asked), {EVERYWHERE: start}).transpose(1, 0, 2):
        found = weights(products, n, said)
        assert (found >= 0).all() and found.sum() == pytest.approx(1.0)
        assert found[RULES.index("saturating")] > 0.5 and found[RULES.index("nothing")] < 0.05
    assert left_out(given, Kind(3, 0, True, False), start).n == 0


def test_left_out_pairs_are_weighed_by_pairs_that_share_no_part_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked_of = screen("saturates"), []
    start = Starts(variances(given, likenesses(given, None)), None)
    whole = left_out(given, Kind(2, 2, True, False), start)

    def weighed_by(products: np.ndarray, n: int, said: np.ndarray, knowing: float) -> np.ndarray:
        asked_of.append(n)
        return np.asarray(said[0])

    monkeypatch.setattr(condition_stack, "weighed", weighed_by)
    left_out(given, Kind(2, 2, True, False), start)
    assert whole.n == 21 and set(asked_of) == {10}  # of 21 pairs 10 share neither part
    asked_of.clear()
    left_out(given, Kind(2, 0, True, False), start)
    assert set(asked_of) == {20}  # of pairs whose parts were seen it is all others


def test_a_new_context_is_told_from_the_others() -> None:
    whole = screen("adds", n_contexts=3)
    asked = whole.context == 2
    said = predict_responses(whole.without(asked), asked)
    assert ((said - whole.effect[asked]) ** 2).mean() < 4 * NOISE**2


def test_a_context_whose_effects_follow_its_untreated_state_is_told_from_contexts_alike() -> None:
    whole = of_states(follows=True)
    asked = whole.context == 4
    given = whole.without(asked)
    blind = conditions_of(given.effect, given.parts, given.context, given.train)
    answers = rules_of_baselines(given, asked)
    model, unseeing = (error(predict_responses(one, asked), whole, asked) for one in (given, blind))
    best = min(error(said, whole, asked) for said in answers.values())
    nearest, elsewhere = (error(answers[name], whole, asked) for name in ("nearest_context", "same_elsewhere"))
    assert nearest < 0.3 * elsewhere
    assert model <= best < 0.5 * unseeing


def test_one_condition_missing_in_a_context_is_told_from_contexts_alike() -> None:
    """Training has the context and the part, never both: rows are left out of their own context alone."""
    whole = of_states(follows=True)
    asked = (whole.context == 4) & whole.parts[:, 0]
    given = whole.without(asked)
    row = int(np.flatnonzero(asked)[0])
    assert kind_of(given, row) == Kind(1, 0, True, True)
    start = Starts(variances(given, likenesses(given, None)), None)
    assert left_out(given, kind_of(given, row), start).n == given.train.sum()
    elsewhere = error(rules_of_baselines(given, asked)["same_elsewhere"], whole, asked)
    assert error(predict_responses(given, asked), whole, asked) < 0.1 * elsewhere


def test_states_that_tell_nothing_cost_little() -> None:
    errors = []
    for seed in range(4):
        whole = of_states(follows=False, seed=seed)
        asked = whole.context == 2
        given = whole.without(asked)
        blind = conditions_of(given.effect, given.parts, given.context, given.train)
        errors.append([error(predict_responses(one, asked), whole, asked) for one in (given, blind)])
    seeing, unseeing = np.mean(errors, axis=0)
    assert seeing < 1.05 * unseeing


def test_where_nothing_can_be_left_out_it_is_the_mean_rule() -> None:
    """Training has one context; what is asked stands in another, and hiding the one leaves nothing to learn from."""
    whole = of_states(follows=True, n_contexts=2)
    asked = whole.context == 1
    given = whole.without(asked)
    mean = np.broadcast_to(given.effect[given.train].mean(axis=0), (8, GENES))
    np.testing.assert_allclose(predict_responses(given, asked), mean, atol=1e-12)


def test_a_state_that_was_not_measured_leaves_its_context_out_of_likeness() -> None:
    whole = of_states(follows=True)
    untreated = whole.untreated.copy()
    untreated[3] = np.nan
    asked = whole.context == 4
    given = conditions_of(whole.effect, whole.parts, whole.context, ~asked, untreated=untreated)
    for i, shares in enumerate(condition_rules.nearest_context(given, np.flatnonzero(asked))):
        assert shares[(given.context == 2) & given.parts[:, i]] == 1.0
    untreated[4] = np.nan
    given = conditions_of(whole.effect, whole.parts, whole.context, ~asked, untreated=untreated)
    for rule in (condition_rules.nearest_context, condition_rules.alike_contexts):
        np.testing.assert_allclose(
            rule(given, np.flatnonzero(asked)), condition_rules.same_elsewhere(given, np.flatnonzero(asked))
        )
    assert np.isfinite(predict_responses(given, asked)).all()


def test_contexts_are_weighed_by_how_alike_their_states_are() -> None:
    """The formula by hand: of the same part alone, the more alike a state, the heavier, by the median distance."""
    whole = of_states(follows=True)
    train = whole.context != 4
    given = conditions_of(whole.effect, whole.parts, whole.context, train, untreated=whole.untreated)
    apart = 1 - np.corrcoef(whole.untreated)
    width = np.median(apart[:4, :4][np.triu_indices(4, 1)])
    near = np.exp(-apart[4, :4] / width)
    rows = np.flatnonzero(whole.context == 4)
    expected = np.zeros((8, len(whole.train)))
    for part, shares in enumerate(expected):
        shares[np.arange(4) * 8 + part] = near / near.sum()
    np.testing.assert_allclose(condition_rules.alike_contexts(given, rows), expected, atol=1e-12)


def test_a_single_left_out_condition_chooses_nothing() -> None:
    """Of part 0 in a third context: hidden in the second it can be told from the first, not the other way round."""
    whole = of_states(follows=True, n_contexts=3)
    train = ((whole.context == 0) & whole.parts[:, :3].any(axis=1)) | ((whole.context == 1) & whole.parts[:, 0])
    asked = (whole.context == 2) & whole.parts[:, 0]
    given, row = whole.without(~train), int(np.flatnonzero(asked)[0])
    start = Starts(variances(given, likenesses(given, None)), None)
    assert left_out(given, kind_of(given, row), start).n == 1
    np.testing.assert_allclose(predict_responses(given, asked)[0], whole.effect[train].mean(axis=0), atol=1e-12)


def test_what_other_contexts_respond_with_does_not_spoil_what_parts_do_here() -> None:
    """Rules that learn from other parts read the context asked about; with it alone they say the same."""
    here = screen("saturates", n_contexts=1)
    rng = np.random.default_rng(5)
    others = rng.normal(size=(60, GENES)) * 0.2
    design = np.eye(N_PARTS, dtype=bool)[rng.integers(0, N_PARTS, 60)]
    effect = np.concatenate([here.effect, others])
    context = np.concatenate([here.context, 1 + np.arange(60) % 3])
    parts = np.concatenate([here.parts, design])
    fewer, asked = held_out(here)
    train = np.concatenate([fewer.train, np.ones(60, bool)])
    whole = conditions_of(effect, parts, context, train)
    asked_too = np.concatenate([asked, np.zeros(60, bool)])
    alone, beside = rules(fewer, np.flatnonzero(asked)), rules(whole, np.flatnonzero(asked_too))
    for name in ("bilinear ridge", "kernel ridge", "best linear", "nearest conditions"):
        np.testing.assert_allclose(beside[RULES.index(name)], alone[RULES.index(name)], rtol=1e-6, atol=1e-9)
    said = predict_responses(whole, asked_too)
    assert error(said, here, asked) < 1.2 * error(predict_responses(fewer, asked), here, asked)


def test_a_part_that_trains_in_another_context_alone_is_told_from_there() -> None:
    whole = screen("adds", n_contexts=2)
    gone = whole.parts[:, 0] & (whole.context == 0)
    given = whole.without(gone)
    row = int(np.flatnonzero(gone)[0])
    assert (given.of_its_context(row) == given.train).all()
    assert set(whole.context[given.of_its_context(int(np.flatnonzero(whole.context == 1)[-1]))]) == {1}


def families(seed: int, known: bool) -> tuple[Conditions, np.ndarray]:
    """Return 24 singles in four families that do alike, of which a prior knows the families, or others drawn."""
    rng = np.random.default_rng(seed)
    family = np.arange(24) % 4
    effect = rng.normal(size=(4, GENES))[family] + 0.4 * rng.normal(size=(24, GENES))
    told = family if known else rng.permutation(family)
    alike = (told[:, None] == told).astype(float)[None]
    return conditions_of(effect, np.eye(24, dtype=bool), np.zeros(24, int), np.ones(24, bool), alike=alike), effect


def test_a_prior_tells_parts_that_were_never_seen_and_a_drawn_one_costs_nothing() -> None:
    errors = {}
    for known in (True, False):
        whole, effect = families(0, known)
        asked = np.arange(24) < 4
        given = whole.without(asked)
        blind = conditions_of(effect, whole.parts, whole.context, ~asked)
        stack = fit_stack(given, {kind_of(given, 0)})
        assert (stack.evidence[kind_of(given, 0)].knowing > 0.9) == known
        said, unknowing = answers(given, asked, stack), predict_responses(blind, asked)
        errors[known] = ((said - effect[asked]) ** 2).mean() / ((unknowing - effect[asked]) ** 2).mean()
    assert errors[True] < 0.4
    assert errors[False] < 1.02


def test_unseen_pairs_stay_at_the_mean_of_the_context_unless_left_out_ones_gain_by_more_than_their_error() -> None:
    assert opening_of(np.array([0.1, 0.11, 0.09, 0.1])) > 0.95
    assert opening_of(np.array([0.5, -0.4, 0.3, -0.2])) == 0.0
    assert opening_of(np.array([-0.1, -0.11, -0.09, -0.1])) == 0.0
    assert opening_of(np.array([0.1, 0.1])) == 0.0
    gains = np.array([0.3, 0.1, 0.2, 0.0])
    assert opening_of(gains) == pytest.approx(1 - gains.var(ddof=1) / 4 / 0.15**2)
    rng = np.random.default_rng(0)
    pairs = np.array([np.isin(np.arange(16), (2 * i, 2 * i + 1)) for i in range(8)])
    effect = 1.0 + rng.normal(size=(8, GENES))
    asked = np.arange(8) == 0
    given = conditions_of(effect, pairs, np.zeros(8, int), ~asked)
    kind = kind_of(given, 0)
    assert kind == Kind(2, 2, True, False)
    stack = fit_stack(given, {kind})
    mean, said = effect[1:].mean(axis=0), answers(given, asked, stack)[0]
    whole = answers(given, asked, Stack(stack.start, {kind: stack.evidence[kind]._replace(opening=1.0)}))[0]
    opening = stack.evidence[kind].opening
    np.testing.assert_allclose(said, opening * whole + (1 - opening) * mean)
    shut = answers(given, asked, Stack(stack.start, {kind: stack.evidence[kind]._replace(opening=0.0)}))[0]
    np.testing.assert_allclose(shut, mean)
