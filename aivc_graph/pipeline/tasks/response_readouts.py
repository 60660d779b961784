"""Effects of interventions in the terms of readouts: genes called by region and niche, and pathways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.metrics.metric import Answers, means_by
from aivc_graph.evaluation.readouts.readout import Ground, read_out, readouts_for
from aivc_graph.evaluation.scoring import MODEL, Scored
from aivc_graph.pipeline.tasks.task import Asked, Mask
from aivc_graph.query.places import NICHE
from aivc_graph.tissue.intervention import Combination

Floats = NDArray[np.float64]
METRICS = ("pearson_delta", "effect_sign", "rmse_effect")


@dataclass(frozen=True)
class Case:
    """One intervention on one scored section, as far as the truth is known of its cells.

    Parameters
    ----------
    given
        What is done.
    section, rows, treated
        Where: the section, its cells among all nodes (node,), and who of them is treated (cell,).
    effects, true, base
        Everybody's effect, the true one, and true expression without it (cell, gene) [counts per 10,000].
    ablations
        The model's effect with one part of it taken away (cell, gene) [counts per 10,000].
    """

    given: Combination
    section: int
    rows: Mask
    treated: Mask
    effects: dict[str, Floats]
    true: Floats
    base: Floats
    ablations: dict[str, Floats] = field(default_factory=dict)


def read_effects(asked: Asked, level: str, cases: Sequence[Case]) -> list[Scored]:
    """Return the effects of all cases as genes called by region and by niche, and as pathways of regions."""
    region = asked.graph[level].region_index.numpy()
    niche = asked.tissue.niches(level=level).obs[NICHE].cat.codes.to_numpy()
    found = []
    for place, of_node in (("regions", region), ("niches", niche)):
        scored, ground = _in_places(asked, level, cases, of_node)
        found += [
            read_out(scored, name, ground, readout=f"{name.replace('_', ' ')}, {place}")
            for name in readouts_for("effect", ground)
        ]
        if place == "regions":
            changes = _log_changes(scored, ground)
            found += [
                read_out(changes, name, ground, readout=f"{name}, {place}", metrics=METRICS)
                for name in readouts_for("change", ground)
            ]
    return found


def _in_places(asked: Asked, level: str, cases: Sequence[Case], of_node: NDArray[Any]) -> tuple[Scored, Ground]:
    """Return the effects on all cells, and the ground by place; a place is of one case alone."""
    code = np.concatenate([of_node[case.rows] for case in cases])
    of_case = np.repeat(np.arange(len(cases)), [int(case.rows.sum()) for case in cases])
    places, group = np.unique(np.column_stack([of_case, code]), axis=0, return_inverse=True)
    group = group.reshape(-1)
    panel = np.array(asked.model.plan.counts[level][names.RNA])
    own = np.stack([np.isin(panel, [part.name for part in case.given.parts]) for case in cases])
    ground = Ground(
        footprints=asked.footprints(level),
        base=np.concatenate([case.base for case in cases]),
        group=group,
        own=own[places[:, 0]],
    )
    pos = np.concatenate([asked.graph[level].pos.numpy()[case.rows] for case in cases])
    section = np.array([cases[one].section for one in places[:, 0]])
    centre = means_by(pos, group, len(places))
    predictors = sorted(set.intersection(*(set(case.effects) for case in cases)) - {MODEL})
    true = np.concatenate([case.true for case in cases])
    scored = Scored(
        task="response",
        axis="intervention",
        split=asked.split,
        scale="region",
        modality="rna",
        readout="effect",
        measured=true,
        model=np.concatenate([case.effects[MODEL] for case in cases]),
        baselines={who: np.concatenate([case.effects[who] for case in cases]) for who in predictors},
        metrics=METRICS,
        units=units_of(asked.donor[section], section, centre),
        leakage=asked.leakage(level, asked.scored(level) & asked.counted(level))["any"],
        ceilings={"truth": true},
    )
    return scored, ground


def _log_changes(scored: Scored, ground: Ground) -> Scored:
    """Return the mean effects on places as changes of log2(1 + counts per 10,000) (place, gene)."""
    assert ground.base is not None and ground.group is not None
    group, n = ground.group, int(ground.group.max()) + 1
    base = means_by(ground.base, group, n)

    def change(effect: Answers) -> Floats:
        after = np.maximum(base + means_by(effect, group, n), 0.0)
        return np.asarray(np.log2(1 + after) - np.log2(1 + base))

    return scored.read(change)
