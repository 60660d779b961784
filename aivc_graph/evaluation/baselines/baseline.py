"""What a baseline may look at, and the registry of baselines: all that fit a task are run beside every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.baselines.remembered import RememberedAnswers
from aivc_graph.io.cache_folder import cache_folder
from aivc_graph.registry import Registry

Array = NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """A task as plain arrays, the same for every baseline.

    Parameters
    ----------
    target
        (node, k) what is asked for; only rows of `train` and `visible` may be read, where NaN was not measured.
    train
        (node,) rows anything may be fitted on.
    visible
        (node,) rows whose target may be looked at when answering, such as sequenced neighbours.
    asked
        (node,) rows to answer.
    section
        (node,) section of each node.
    pos_um
        (node, 2) positions [µm].
    features
        (node, f) what is known of every node, such as features of its tile; None where there are none.
    featured
        (node,) who has features; all if not given.
    comparable
        Features are of one scale, in all sections, as log-normalised counts are: their spread and their differences
        between sections are kept.
    counts, profiles
        (node, gene) counts of patches, and (k, gene) expected counts of a cell of each type.
    parts, panel
        (node, part) what was done to each node, and which of the k values is of the part's own gene, -1 for none
        (part,).
    """

    target: Array
    train: Array
    visible: Array
    asked: Array
    section: Array
    pos_um: Array
    features: Array | None = None
    featured: Array | None = None
    comparable: bool = False
    counts: Array | None = None
    profiles: Array | None = None
    parts: Array | None = None
    panel: Array | None = None

    def fitted(self) -> NDArray[np.intp]:
        """Return the rows that what is learned from features is fitted on (row,)."""
        return np.flatnonzero(self.train & (True if self.featured is None else self.featured))

    def standard_features(self) -> Array:
        """Return features at zero mean and unit spread within each section (node, f), comparable ones about a mean."""
        assert self.features is not None
        if self.comparable:
            return np.asarray(self.features - self.features[self.train].mean(axis=0), np.float64)
        out = np.zeros_like(self.features, dtype=np.float64)
        rows_with = np.ones(len(out), bool) if self.featured is None else self.featured
        for section in np.unique(self.section):
            rows = (self.section == section) & rows_with
            if rows.any():
                part = self.features[rows].astype(np.float64)
                out[rows] = (part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-6)
        return out


Baseline = Callable[[Scene], Array | None]
# Facts: `answers`, the readouts it is run for; `rule`, what it does in one sentence; `costly`, whether its answers are
# worth remembering: a mean is worked out sooner than its scene is hashed.
BASELINES: Registry[Baseline] = Registry("baseline", "aivc_graph.evaluation.baselines")


def run_baselines(scene: Scene, readout: str) -> dict[str, Array]:
    """Return the answers (asked, k) of every baseline for `readout` that has what it needs.

    Those of costly ones are remembered in the user's cache folder, by content; see `RememberedAnswers`. Where sections
    measured differing columns, those that the same sections measured are answered together, from these sections alone.
    """
    blocks = _blocks(scene)
    if blocks is not None:
        return _joined(scene, readout, blocks)
    asked = [name for name in BASELINES if readout in BASELINES.facts[name]["answers"]]  # type: ignore[operator]
    # Costly rules rest on features or counts; where there are neither they have nothing to say.
    able = scene.features is not None or scene.counts is not None
    costly = {name for name in asked if able and BASELINES.facts[name].get("costly")}
    folder = cache_folder() if costly else None
    remembered = None if folder is None else RememberedAnswers(folder, scene)
    answers = {}
    for name in asked:
        kept = remembered if name in costly else None
        found = kept.get(name, BASELINES[name]) if kept is not None else None
        if found is None:
            found = BASELINES[name](scene)
            if kept is not None and found is not None:
                kept.put(name, BASELINES[name], found)
        if found is not None:
            answers[name] = found
    return answers


def _blocks(scene: Scene) -> Array | None:
    """Return which columns each row has (row, k), where rows that may be read lack some; None where they lack none."""
    if scene.target.ndim != 2 or not np.issubdtype(scene.target.dtype, np.floating):
        return None
    known = np.isfinite(scene.target)
    return None if known[scene.train | scene.visible].all() else known


def _joined(scene: Scene, readout: str, known: Array) -> dict[str, Array]:
    """Return the answers put together from blocks of columns that the same rows have; NaN where a rule has none."""
    read, shape = scene.train | scene.visible, (int(scene.asked.sum()), scene.target.shape[1])
    found: dict[str, Array] = {}
    sections = np.unique(scene.section[read])
    by_section = np.stack([known[read & (scene.section == one)].any(axis=0) for one in sections], axis=1)
    for pattern in np.unique(by_section[by_section.any(axis=1)], axis=0):
        columns = np.flatnonzero((by_section == pattern).all(axis=1))
        there = np.isin(scene.section, sections[pattern])
        # Whoever may look around in a section that measured none of it is not asked: nothing there is to be seen.
        asked = scene.asked & (there | ~np.isin(scene.section, np.unique(scene.section[scene.visible])))
        part = replace(
            scene,
            target=scene.target[:, columns],
            train=scene.train & there,
            visible=scene.visible & there,
            asked=asked,
        )
        if not asked.any() or not part.train.any():
            continue
        for name, answer in run_baselines(part, readout).items():
            whole = found.setdefault(name, np.full((shape[0], *answer.shape[1:-1], shape[1]), np.nan))
            rows = np.flatnonzero(asked[scene.asked])
            whole[np.ix_(rows, *map(np.arange, answer.shape[1:-1]), columns)] = answer
    return found
