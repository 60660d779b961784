"""Responses to interventions by rule, from the effects of other conditions and other contexts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.operators.intervention import condition_rules
from aivc_graph.operators.intervention.conditions import Conditions, Floats, Ints, conditions_of, features, loadings


@BASELINES.register("same_elsewhere", answers=("response",), rule="the mean effect of the same in other contexts")
def same_elsewhere(scene: Scene) -> Array | None:
    """Return the mean training effect of the same condition (asked, k), of all where none is; None without any."""
    if all(rows is None for rows in _same(scene)):
        return None
    return _told(scene, condition_rules.same_elsewhere)


@BASELINES.register("nearest_context", answers=("response",), rule="the effect of the same in the most similar context")
def nearest_context(scene: Scene) -> Array | None:
    """Return the training effect of the same condition whose control is most alike (asked, k); None without any.

    `features` (node, gene) are the profiles of the controls.
    """
    return _by_untreated_state(scene, condition_rules.nearest_context)


@BASELINES.register(
    "alike_contexts", answers=("response",), rule="the effects of the same elsewhere, weighed by how alike controls are"
)
def alike_contexts(scene: Scene) -> Array | None:
    """Return the mean training effect of the same condition, contexts weighed by likeness (asked, k); None without any.

    `features` (node, gene) are the profiles of the controls.
    """
    return _by_untreated_state(scene, condition_rules.alike_contexts)


@BASELINES.register(
    "additive", answers=("response",), rule="the sum of the effects of the parts alone, the mean effect for one unseen"
)
def additive(scene: Scene) -> Array | None:
    """Return the sum over parts of their effects alone (asked, k).

    References
    ----------
    Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6.
    """
    return _told(scene, condition_rules.additive)


@BASELINES.register(
    "saturating",
    answers=("response",),
    rule="of the parts' effects alone, those of one sign take the larger; others add",
)
def saturating(scene: Scene) -> Array | None:
    """Return for each gene the larger of effects of one sign, and the sum of opposite ones (asked, k)."""
    if scene.parts is None:
        return None
    given = _conditions(scene)
    told = [given.told(condition_rules.alone(given, row)) for row in np.flatnonzero(scene.asked)]
    return np.stack([condition_rules.saturated(effects) for effects in told])


@BASELINES.register(
    "bilinear_ridge", answers=("response",), rule="ridge between what is known of parts and 10 components of effects"
)
def bilinear_ridge(scene: Scene) -> Array | None:
    """Return ridge from features of the parts to ten components of training effects (asked, k)."""
    return _told(scene, _by_parts(condition_rules.bilinear_ridge), least=3)


@BASELINES.register(
    "kernel_ridge", answers=("response",), rule="ridge with a Gaussian kernel on what is known of the parts"
)
def kernel_ridge(scene: Scene) -> Array | None:
    """Return kernel ridge around the mean effect (asked, k)."""
    return _told(scene, _by_parts(condition_rules.kernel_ridge), least=3)


@BASELINES.register(
    "knn", answers=("response",), rule="the mean effect of the 3 training conditions with the nearest parts"
)
def nearest_conditions(scene: Scene) -> Array | None:
    """Return the mean of the three nearest training rows by features of parts (asked, k); ties are all taken."""
    return _told(scene, _by_parts(condition_rules.nearest), least=condition_rules.NEIGHBOURS)


@BASELINES.register(
    "label_shuffled", answers=("response",), rule="the additive rule learned from effects whose labels were shuffled"
)
def label_shuffled(scene: Scene) -> Array | None:
    """Return the additive rule on training effects in a random order (asked, k): what labels add is its distance."""
    rows = np.flatnonzero(scene.train)
    target = scene.target.copy()
    target[rows] = scene.target[np.random.default_rng(0).permutation(rows)]
    return additive(replace(scene, target=target))


def _by_parts(rule: Callable[[Conditions, Ints, Floats], Floats]) -> Callable[[Conditions, Ints], Floats]:
    """Return a rule that looks at features of parts, learned where they are asked about."""

    def of_contexts(given: Conditions, rows: Ints) -> Floats:
        shares = np.zeros((len(rows), len(given.train)))
        for _, some, own in given.of_contexts(rows):
            shares[some] = rule(own, rows[some], features(given.parts, loadings(own)))
        return shares

    return of_contexts


def _told(scene: Scene, rule: Callable[[Conditions, Ints], Floats], least: int = 1) -> Array | None:
    """Return what a rule says (asked, k); None without parts, or with fewer training rows than it needs."""
    if scene.parts is None or scene.train.sum() < least:
        return None
    given = _conditions(scene)
    return given.told(rule(given, np.flatnonzero(scene.asked)))


def _by_untreated_state(scene: Scene, rule: Callable[[Conditions, Ints], Floats]) -> Array | None:
    """Return what a rule says that looks at controls (asked, k); None where it says what `same_elsewhere` does."""
    if scene.features is None or all(rows is None for rows in _same(scene)):
        return None
    return _told(scene, rule)


def _conditions(scene: Scene) -> Conditions:
    assert scene.parts is not None
    _, first, context = np.unique(scene.section, return_index=True, return_inverse=True)
    untreated = None if scene.features is None else scene.features[first]
    return conditions_of(scene.target, scene.parts, context.reshape(-1), scene.train, scene.panel, untreated)


def _same(scene: Scene) -> list[Array | None]:
    """Return for each asked row the training rows with the same parts."""
    if scene.parts is None:
        return [None]
    code = np.unique(scene.parts, axis=0, return_inverse=True)[1].reshape(-1)
    rows = (np.flatnonzero(scene.train & (code == code[row])) for row in np.flatnonzero(scene.asked))
    return [found if len(found) else None for found in rows]
