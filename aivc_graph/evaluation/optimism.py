"""How much better a random split would have looked: two fixed probes, scored on both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aivc_graph.evaluation.scoring import rounded
from aivc_graph.evaluation.similarity import nearest, principal_axes
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]
Rows = NDArray[np.bool_]

SAMPLE, NEIGHBOURS, NEAR, DRAWS = 8000, 10, 6, 3
PROBES = {
    "profile": "every second gene from the others, mean of the 10 training nodes of nearest profile",
    "place": "every gene, mean of the 6 nearest training nodes of the section, the training mean where there is none",
}


def optimism_gap(
    profiles: Floats, pos_um: Floats, section: NDArray[np.int64], train: Rows, test: Rows, seed: int = 0
) -> dict[str, Any]:
    """Return the score of each probe under this split, under a random one of the same sizes, and the gap.

    A score is the mean per-gene Pearson correlation on tested nodes. Gap = random (mean of three draws) − this split:
    what a random split would have flattered. A gap near 0 under a split that means to ask something new says that
    training holds what is tested.

    Parameters
    ----------
    profiles
        Log profiles (node, gene).
    pos_um, section
        Position (node, 2) [µm] and section (node,). Where one has none there is no probe of the place.
    train, test
        The sides (node,); other nodes are left out. At most 8,000 nodes are used, evenly spaced.
    seed
        Of the random splits.
    """
    used = np.flatnonzero(train | test)
    used = used[evenly(len(used), SAMPLE)]
    here, asked = (profiles[used].astype(np.float32), pos_um[used], section[used]), test[used]
    if asked.sum() < 3 or (~asked).sum() <= NEIGHBOURS:
        return {}
    rng = np.random.default_rng(seed)
    random = [_scores(*here, rng.permutation(asked)) for _ in range(DRAWS)]
    found = {}
    for probe, score in _scores(*here, asked).items():
        flattered = float(np.mean([one[probe] for one in random]))
        numbers = {"this_split": rounded(score), "random_split": rounded(flattered), "gap": rounded(flattered - score)}
        found[probe] = {"probe": PROBES[probe], **numbers}
    return found


def _scores(profiles: Floats, pos_um: Floats, section: NDArray[np.int64], asked: Rows) -> dict[str, float]:
    found = {"profile": _by_profile(profiles, asked)}
    if not np.isfinite(pos_um).all():
        return found
    return found | {"place": _by_place(profiles, pos_um, section, asked)}


def _by_profile(profiles: Floats, asked: Rows) -> float:
    order = np.argsort(-profiles[~asked].var(axis=0), kind="stable")
    known, wanted = profiles[:, order[::2]], profiles[:, order[1::2]]
    if wanted.shape[1] == 0:
        return 0.0
    basis, centre = principal_axes(known[~asked])
    seen = (known - centre) @ basis
    near = nearest(seen[~asked], seen[asked], NEIGHBOURS)[0]
    return _mean_pearson(wanted[~asked][near].mean(axis=1), wanted[asked])


def _by_place(profiles: Floats, pos_um: Floats, section: NDArray[np.int64], asked: Rows) -> float:
    told = np.repeat(profiles[~asked].mean(axis=0, keepdims=True), int(asked.sum()), axis=0)
    for one in np.unique(section[asked]):
        here, known = section[asked] == one, (section == one) & ~asked
        if known.any():
            k = min(NEAR, int(known.sum()))
            near = cKDTree(pos_um[known]).query(pos_um[asked][here], k=[*range(1, k + 1)])[1]
            told[here] = profiles[known][near].mean(axis=1)
    return _mean_pearson(told, profiles[asked])


def _mean_pearson(told: Floats, true: Floats) -> float:
    """Return the mean correlation over genes that vary; 0 where an answer does not."""
    a, b = (values - values.mean(axis=0, dtype=np.float64) for values in (told, true))
    length, wanted = np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0)
    varies = wanted > 1e-9
    told_apart = length > 1e-5 * wanted  # below that it is rounding
    r = np.where(told_apart, (a * b).sum(axis=0) / np.maximum(length * wanted, 1e-12), 0.0)
    return float(r[varies].mean()) if varies.any() else 0.0
