"""What became of the donors, told from the niches of their sections, each donor left out in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.readouts.endpoint import endpoint as told
from aivc_graph.evaluation.readouts.readout import READOUTS, Ground
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.context_expression import OF_CONTEXT
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.query.places import NICHE
from aivc_graph.query.predictions import measured_log_expression

Floats = NDArray[np.floating]
SPLIT = "leave-donor-out"


@TASKS.register("endpoint", needs="`evaluation.endpoint`: a trait of the sections, two classes of two donors at least")
def endpoint(asked: Asked) -> list[Scored]:
    """Tell a trait of the sections from the shares of niches in them; baselines from other shares, by the same rule.

    All sections take part, whatever side of the split they are on: niches are found without the trait, and no donor's
    trait is known to the fit it is told by. That the tissue of some donors trained the model is told as leakage.
    """
    column, level = asked.config.evaluation.endpoint, asked.tissue.base_level
    modality = asked.model.plan.expressed(level)
    if column is None or modality not in OF_CONTEXT:
        return []
    obs = asked.graph.obs(names.SECTION)
    if column not in obs:
        raise unknown_name(QueryError, "evaluation · endpoint", "trait of the sections", column, obs.columns)
    outcome = np.asarray(pd.Categorical(obs[column]).codes, np.int64)
    ground = Ground(donor=asked.donor, outcome=outcome)
    donors = [len(np.unique(asked.donor[outcome == one])) for one in np.unique(outcome[outcome >= 0])]
    rows = outcome >= 0
    if len(donors) < 2 or min(donors) < 2:
        return []
    section = asked.graph[level].section_index.numpy()
    niches = asked.tissue.niches(level=level)
    shares = _other_shares(asked, level, niches.obs[NICHE].cat.codes.to_numpy(), section)
    trained = np.unique(asked.donor[section[asked.training(level)]])
    scene = Scene(outcome, rows, np.zeros(len(rows), bool), rows, asked.donor, np.zeros((len(rows), 2)))
    return [
        Scored(
            task="endpoint",
            axis="context",
            split=SPLIT,
            scale="section",
            modality=f"{modality} → annotation",
            readout=f"endpoint, {column}",
            measured=outcome[rows],
            model=told(_by_section(np.asarray(niches.X), section, len(rows)), ground)[rows],
            baselines=run_baselines(scene, "endpoint")
            | {who: told(values, ground)[rows] for who, values in shares.items()},
            metrics=READOUTS.facts["endpoint"]["metrics"],  # type: ignore[arg-type]
            units=units_of(asked.donor[rows], np.flatnonzero(rows)),
            leakage=round(float(np.isin(asked.donor[rows], trained).mean()), 6),
            no_ceiling="an annotation, not the truth: each donor's record was taken once",
        )
    ]


def _other_shares(asked: Asked, level: str, member: NDArray[Any], section: NDArray[np.integer]) -> dict[str, Floats]:
    """Return what sections are made of by rules that know no niche (section, kind)."""
    expression, counted = measured_log_expression(asked.model, asked.graph, level), asked.counted(level)
    nobody = np.zeros(len(member), bool)
    scene = asked.scene(level, member, train=nobody, visible=counted, asked=~nobody, features=expression)
    domains = run_baselines(scene, "domains")
    n = len(asked.donor)
    found = {who: _by_section(np.eye(int(code.max()) + 1)[code], section, n) for who, code in domains.items()}
    # Its root is taken, as of shares: squared, it is log expression itself.
    found["mean_expression"] = _by_section(expression[counted], section[counted], n) ** 2
    return found


def _by_section(values: Floats, section: NDArray[np.integer], n: int) -> Floats:
    """Return the mean of each section (section, column), zeros where it has no node."""
    total = np.zeros((n, values.shape[1]))
    np.add.at(total, section, values)
    return total / np.maximum(np.bincount(section, minlength=n), 1)[:, None]
