"""What sections that were never sequenced are made of, from the slide alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.pipeline.tasks.composition import true_shares
from aivc_graph.pipeline.tasks.image_niche import shares_of
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked, Mask
from aivc_graph.query.ablations import FEATURES_ONLY
from aivc_graph.query.composition import measured_shares, predicted_shares
from aivc_graph.query.virtual_tissue import VirtualTissue

Floats = NDArray[np.floating]
LEAST_BENEATH = 0.5


@TASKS.register("image_to_composition", needs="patches with a tile, labelled cells beneath some of them, some held out")
def image_to_composition(asked: Asked) -> list[Scored]:
    """Take all that was measured of the scored nodes away but their tiles, and ask what patches are made of.

    Against the true shares where they are known, else the cells beneath; rules learn from those of training patches.
    """
    found = []
    for child, parent in asked.model.plan.compositions:
        seen = asked.measured(parent, names.HISTOLOGY)
        if not seen.any() or asked.split == HIDDEN:
            continue
        beneath = measured_shares(asked.model, asked.graph, child, parent)
        true = true_shares(asked, child, parent)
        reference = beneath if true is None else true
        train = asked.training(parent) & seen & (beneath.sum(axis=1) > LEAST_BENEATH)
        rows = asked.scored(parent) & seen & (reference.sum(axis=1) > LEAST_BENEATH)
        if not rows.any() or not train.any():
            continue
        scene = asked.slide_scene(parent, beneath, train, rows)

        def answer(tissue: VirtualTissue, child: str = child, parent: str = parent, rows: Mask = rows) -> Floats:
            left = hide_observations(tissue.graph, asked.all_hidden)
            return predicted_shares(tissue.model, left, child, parent)[rows]

        found.append(
            Scored(
                task="image_to_composition",
                axis="modality",
                modality="histology → type",
                readout="composition, " + ("cells beneath" if true is None else "true shares"),
                measured=reference[rows],
                model=answer(asked.tissue),
                baselines={name: shares_of(said) for name, said in run_baselines(scene, "modality").items()},
                ablations=asked.ablations(answer, FEATURES_ONLY),
                metrics=("jsd", "rmse_shares"),
                **asked.asked_of(parent, rows),
                similarity=asked.similarity(parent, rows),
                no_ceiling="the cells beneath were typed once: no replicate of their labels",
            )
        )
    return found
