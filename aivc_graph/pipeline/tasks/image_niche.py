"""Niches of sections that were never sequenced, from the slide alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked
from aivc_graph.query.answers import counted_nodes

Floats = NDArray[np.floating]
LEAST_KNOWN = 0.5


@TASKS.register("image_to_niche", needs="patches with a tile, in niches that measured tissue tells, some held out")
def image_to_niche(asked: Asked) -> list[Scored]:
    """Take all that was measured of the scored nodes away but their tiles, and ask for the run's niches again.

    What is right is what the run tells by what was measured; rules learn the same of training patches. Of
    niches of patches that is one, by its probability; of niches of cells a patch holds several, by their shares.
    Without a part the run has niches of its own, which are others: nothing is asked so.
    """
    level = names.PATCH
    seen = asked.measured(level, names.HISTOLOGY)
    if not seen.any() or not asked.model.plan.panels or asked.split == HIDDEN:
        return []
    shares = asked.tissue.niche_shares()[level]
    known = seen & (shares.sum(axis=1) > LEAST_KNOWN) & counted_nodes(asked.model, asked.graph, level)
    rows, train = asked.scored(level) & known, asked.training(level) & known
    if shares.shape[1] < 2 or not rows.any() or not train.any():
        return []
    scene = asked.slide_scene(level, shares, train, rows)
    own = asked.tissue.base_level == level
    of_one = ("log_loss", "accuracy", "balanced_accuracy", "calibration_error")
    return [
        Scored(
            task="image_to_niche",
            axis="modality",
            modality="histology → niche",
            readout="niche of the run" if own else "niches of the run",
            measured=shares[rows].argmax(axis=1) if own else shares[rows],
            model=asked.tissue.without(asked.all_hidden).niche_shares()[level][rows],
            baselines={name: shares_of(said) for name, said in run_baselines(scene, "modality").items()},
            metrics=of_one if own else ("jsd", "rmse_shares"),
            **asked.asked_of(level, rows),
            similarity=asked.similarity(level, rows),
            no_ceiling="niches are what the run makes of the tissue: it was measured once",
        )
    ]


def shares_of(said: Floats) -> Floats:
    """Return what a rule says of shares (row, kind), none below zero and of sum one."""
    said = np.clip(said, 0.0, None)
    total = said.sum(axis=1, keepdims=True)
    return np.where(total > 0, said / np.maximum(total, 1e-12), 1.0 / said.shape[1])
