"""What the readouts of expression stand on in a tissue: who is near whom, which niches there are, which regions."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aivc_graph.evaluation.baselines.baseline import Scene
from aivc_graph.evaluation.intervals import Halves, Units, units_of
from aivc_graph.evaluation.metrics.metric import Answers
from aivc_graph.evaluation.readouts.niche_rule import MOST, NicheRule
from aivc_graph.evaluation.readouts.readout import Ground, read_out, readouts_for
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.task import Asked, Mask
from aivc_graph.query.places import NICHE

Floats = NDArray[np.floating]
AROUND, LEAST_OF_NICHE = 18, 5


def read_all(asked: Asked, level: str, rows: Mask, scored: Scored, scene: Scene, target: Floats) -> list[Scored]:
    """Return a task of log expression in the terms of every readout there is ground for, genes first.

    What ablations answer is read as genes alone. What is made of several genes is read off those that all sections
    measured.

    Parameters
    ----------
    rows
        (node,) who is asked.
    scored
        The task with everybody's log expression.
    scene
        What baselines look at: it says who trains and who is visible.
    target
        (node, gene) log expression as measured.
    """
    placed, genes = asked.placed(level), measured_by_all(target, scene, rows)
    known = (scene.train | scene.visible) & ~rows & placed
    region = asked.graph[level].region_index.numpy()[rows]
    plain, target = scored, target[:, genes]
    if len(genes) < len(scored.measured.T):
        scored = of_columns(scored, genes)
    if not len(genes):
        return [read_out(plain, "genes", Ground())]
    ground = Ground(
        footprints=asked.footprints(level, genes),
        known=target,
        asked=rows,
        near=nearest(asked, level, rows, known | rows, AROUND),
        niches=_niche_rule(asked, level, scene.train & ~rows & placed, known, target),
        section=scene.section,
        group=np.unique(region, return_inverse=True)[1].reshape(-1),
    )
    of_regions = {"scale": "region", "units": _units_of_regions(asked, level, rows, region), "similarity": {}}
    changes = {"niche_composition": of_regions}
    others = dataclasses.replace(scored, ablations={})
    return [
        read_out(plain if name == "genes" else others, name, ground, **changes.get(name, {}))
        for name in readouts_for("expression", ground)
    ]


def measured_by_all(target: Floats, scene: Scene, rows: Mask) -> NDArray[np.intp]:
    """Return the genes that every node that is asked, trains or is visible measured, none of them NaN."""
    return np.flatnonzero(np.isfinite(target[scene.train | scene.visible | rows]).all(axis=0))


def of_columns(scored: Scored, genes: NDArray[np.integer]) -> Scored:
    """Return a task of log expression as asked of some genes alone."""

    def some(answer: Answers) -> Answers:
        if isinstance(answer, Halves):
            return Halves(answer.one[:, genes], answer.other[:, genes])
        return answer[:, genes]

    return scored.read(some, ablations={})


def nearest(asked: Asked, level: str, rows: Mask, among: Mask, most: int) -> NDArray[np.intp] | None:
    """Return each of `rows` with the nearest to it of its section (row, k), itself first where it is `among` them.

    As many as `most`, or as the smallest section has; None where that is one alone.
    """
    section, pos = asked.graph[level].section_index.numpy(), asked.graph[level].pos.numpy()
    sections = np.unique(section[rows])
    k = min(most, *(int((among & (section == one)).sum()) for one in sections))
    if k < 2:
        return None
    near = np.zeros((int(rows.sum()), k), np.intp)
    for one in sections:
        there, mine = np.flatnonzero(among & (section == one)), section[rows] == one
        near[mine] = there[cKDTree(pos[there]).query(pos[rows][mine], k=k)[1]]
    return near


def _niche_rule(asked: Asked, level: str, train: Mask, known: Mask, target: Floats) -> NicheRule | None:
    """Return the rule that tells the run's niches by expression; None where there are no two, or nobody trains."""
    member = asked.tissue.niches(level=level).obs[NICHE].cat.codes.to_numpy()
    kinds, number = np.unique(member[train & (member >= 0)], return_counts=True)
    kinds = kinds[number >= LEAST_OF_NICHE]
    usable = np.flatnonzero(train & np.isin(member, kinds))
    if len(kinds) < 2:
        return None
    rows = np.zeros(len(train), bool)
    rows[np.random.default_rng(asked.tissue.seed).permutation(usable)[:MOST]] = True
    near = nearest(asked, level, rows, known, AROUND)
    if near is None:
        return None
    around = np.mean([target[one] for one in near.T], axis=0)
    section = asked.graph[level].section_index.numpy()
    for one in np.unique(section[rows]):
        around[section[rows] == one] -= target[known & (section == one)].mean(axis=0)
    return NicheRule(around, member[rows])


def _units_of_regions(asked: Asked, level: str, rows: Mask, region: NDArray[np.integer]) -> Units:
    """Return who is resampled among the regions that nodes of `rows` lie in."""
    section, pos = asked.graph[level].section_index.numpy()[rows], asked.graph[level].pos.numpy()[rows]
    first, group = np.unique(region, return_index=True, return_inverse=True)[1:]
    centre = np.stack([pos[group.reshape(-1) == one].mean(axis=0) for one in range(len(first))])
    return units_of(asked.donor[section[first]], section[first], centre)
