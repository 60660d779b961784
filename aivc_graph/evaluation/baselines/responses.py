"""Responses to interventions by rule, from the effects of other conditions and other contexts."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene

COMPONENTS = 10
PENALTY = 0.1
NEIGHBOURS = 3


@BASELINES.register("same_elsewhere", answers=("response",), rule="the mean effect of the same in other contexts")
def same_elsewhere(scene: Scene) -> Array | None:
    """Return the mean training effect of the same condition (asked, k), of all where none is; None without any."""
    found = _same(scene)
    if scene.parts is None or all(rows is None for rows in found):
        return None
    mean = scene.target[scene.train].mean(axis=0)
    return np.stack([mean if rows is None else scene.target[rows].mean(axis=0) for rows in found])


@BASELINES.register("nearest_context", answers=("response",), rule="the effect of the same in the most similar context")
def nearest_context(scene: Scene) -> Array | None:
    """Return the training effect of the same condition whose control is most alike (asked, k); None without any.

    `features` (node, gene) are the profiles of the controls.
    """
    found = _same(scene)
    if scene.features is None or all(rows is None for rows in found):
        return None
    answer = np.repeat(scene.target[scene.train].mean(axis=0)[None], len(found), axis=0)
    for i, (row, rows) in enumerate(zip(np.flatnonzero(scene.asked), found, strict=True)):
        if rows is not None:
            likeness = [np.corrcoef(scene.features[row], scene.features[other])[0, 1] for other in rows]
            answer[i] = scene.target[rows[int(np.argmax(likeness))]]
    return answer


@BASELINES.register(
    "additive", answers=("response",), rule="the sum of the effects of the parts alone, the mean effect for one unseen"
)
def additive(scene: Scene) -> Array | None:
    """Return the sum over parts of their effects alone (asked, k); see `single_effects`.

    References
    ----------
    Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6.
    """
    if scene.parts is None:
        return None
    alone = single_effects(scene)
    return np.stack([sum(effects) for effects in alone])


@BASELINES.register(
    "saturating",
    answers=("response",),
    rule="of the parts' effects alone, those of one sign take the larger; others add",
)
def saturating(scene: Scene) -> Array | None:
    """Return for each gene the larger of effects of one sign, and the sum of opposite ones (asked, k)."""
    return None if scene.parts is None else np.stack([saturated(effects) for effects in single_effects(scene)])


@BASELINES.register(
    "bilinear_ridge", answers=("response",), rule="ridge between what is known of parts and 10 components of effects"
)
def bilinear_ridge(scene: Scene) -> Array | None:
    r"""Return :math:`\bar y + G W p` (asked, k), G ten components of training effects, p features of the parts.

    References
    ----------
    Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6 (penalty 0.1, as there).
    """
    if scene.parts is None or scene.train.sum() < 3:
        return None
    x, effects = part_features(scene), scene.target[scene.train]
    mean, centre = effects.mean(axis=0), x[scene.train].mean(axis=0)
    u, s, v = np.linalg.svd(effects - mean, full_matrices=False)
    k = min(COMPONENTS, len(s))
    own = x[scene.train] - centre
    weights = own.T @ np.linalg.solve(own @ own.T + PENALTY * np.eye(len(own)), u[:, :k] * s[:k])
    return mean + (x[scene.asked] - centre) @ weights @ v[:k]


@BASELINES.register(
    "kernel_ridge", answers=("response",), rule="ridge with a Gaussian kernel on what is known of the parts"
)
def kernel_ridge(scene: Scene) -> Array | None:
    """Return kernel ridge around the mean effect (asked, k); the bandwidth is the median distance of training rows."""
    if scene.parts is None or scene.train.sum() < 3:
        return None
    x, effects = part_features(scene), scene.target[scene.train]
    mean = effects.mean(axis=0)
    squares = _squares(x[scene.train], x[scene.train])
    width = float(np.median(squares[np.triu_indices(len(squares), 1)])) or 1.0
    weights = np.linalg.solve(np.exp(-squares / width) + PENALTY * np.eye(len(squares)), effects - mean)
    return mean + np.exp(-_squares(x[scene.asked], x[scene.train]) / width) @ weights


@BASELINES.register(
    "knn", answers=("response",), rule="the mean effect of the 3 training conditions with the nearest parts"
)
def nearest_conditions(scene: Scene) -> Array | None:
    """Return the mean of the three nearest training rows by features of parts (asked, k); ties are all taken."""
    if scene.parts is None or scene.train.sum() < NEIGHBOURS:
        return None
    x, effects = part_features(scene), scene.target[scene.train]
    far = _squares(x[scene.asked], x[scene.train])
    limit = np.sort(far, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    near = (far <= limit + 1e-12).astype(float)
    return near @ effects / near.sum(axis=1, keepdims=True)


@BASELINES.register(
    "label_shuffled", answers=("response",), rule="the additive rule learned from effects whose labels were shuffled"
)
def label_shuffled(scene: Scene) -> Array | None:
    """Return the additive rule on training effects in a random order (asked, k): what labels add is its distance."""
    if scene.parts is None:
        return None
    rows = np.flatnonzero(scene.train)
    target = scene.target.copy()
    target[rows] = scene.target[np.random.default_rng(0).permutation(rows)]
    return np.stack([sum(effects) for effects in single_effects(scene, target)])


def single_effects(scene: Scene, target: Array | None = None) -> list[list[Array]]:
    """Return for each asked row the effect of each of its parts alone.

    From the same context where training has it there, else the mean over other contexts, else the mean over all single
    perturbations of training, or over all conditions where none is single.
    """
    assert scene.parts is not None
    target = scene.target if target is None else target
    single = scene.train & (scene.parts.sum(axis=1) == 1)
    mean = target[single if single.any() else scene.train].mean(axis=0)
    found = []
    for row in np.flatnonzero(scene.asked):
        effects = []
        for part in np.flatnonzero(scene.parts[row]):
            alone = single & scene.parts[:, part]
            here = alone & (scene.section == scene.section[row])
            rows = here if here.any() else alone
            effects.append(target[rows].mean(axis=0) if rows.any() else mean)
        found.append(effects)
    return found


def saturated(effects: list[Array]) -> Array:
    """Return the largest rise plus the deepest fall of each gene (k,)."""
    both = np.stack(effects)
    return both.clip(min=0).max(axis=0) + both.clip(max=0).min(axis=0)


def part_features(scene: Scene) -> Array:
    """Return what is known of each row's parts (node, f): which they are, and the sum of their loadings."""
    assert scene.parts is not None
    parts = scene.parts.astype(float)
    return parts if scene.loadings is None else np.concatenate([parts, parts @ scene.loadings], axis=1)


def _same(scene: Scene) -> list[Array | None]:
    """Return for each asked row the training rows with the same parts."""
    if scene.parts is None:
        return [None]
    code = np.unique(scene.parts, axis=0, return_inverse=True)[1].reshape(-1)
    rows = (np.flatnonzero(scene.train & (code == code[row])) for row in np.flatnonzero(scene.asked))
    return [found if len(found) else None for found in rows]


def _squares(a: Array, b: Array) -> Array:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)
