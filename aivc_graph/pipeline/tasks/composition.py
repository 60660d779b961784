"""What patches are made of, from their counts alone: the cells beneath are taken away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import MODEL, Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import panel_columns, types_of
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.query.composition import measured_shares, predicted_shares
from aivc_graph.query.virtual_tissue import VirtualTissue

Floats = NDArray[np.float64]
TRUE_SHARES = "true shares"


@TASKS.register("spot_to_composition", needs="patches with counts, and labelled cells beneath some of them")
def spot_to_composition(asked: Asked) -> list[Scored]:
    """Ask what the scored patches are made of; against the true shares where they are known, else the cells beneath."""
    found = []
    for child, parent in asked.model.plan.compositions:
        counted, measured = asked.counted(parent), measured_shares(asked.model, asked.graph, child, parent)
        references = {"cells beneath": measured}
        true = true_shares(asked, child, parent)
        if true is not None:
            references[TRUE_SHARES] = true
        train = asked.training(parent) & counted & (measured.sum(axis=1) > 0)

        def answer(tissue: VirtualTissue, child: str = child, parent: str = parent) -> Floats:
            left = hide_observations(tissue.graph, {(child, names.RNA): asked.scored(child)})
            return predicted_shares(tissue.model, left, child, parent)

        predicted = {MODEL: answer(asked.tissue), **asked.ablations(answer)}
        for readout, reference in references.items():
            rows = asked.scored(parent) & counted & (reference.sum(axis=1) > 0.5)
            if rows.any() and train.any():
                found.append(_scored(asked, child, parent, readout, reference, predicted, measured, train, rows))
    return found


def _scored(
    asked: Asked,
    child: str,
    parent: str,
    readout: str,
    reference: Floats,
    predicted: dict[str, Floats],
    measured: Floats,
    train: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> Scored:
    counts, profiles = _spots_and_types(asked, child, parent)
    nobody = np.zeros(len(rows), bool)
    scene = asked.scene(parent, measured, train=train, visible=nobody, asked=rows, counts=counts, profiles=profiles)
    return Scored(
        task="spot_to_composition",
        axis="scale",
        modality="rna → type",
        readout=f"composition, {readout}",
        measured=reference[rows],
        model=predicted[MODEL][rows],
        baselines=run_baselines(scene, "composition"),
        ablations={who: shares[rows] for who, shares in predicted.items() if who != MODEL},
        metrics=("jsd", "rmse_shares"),
        **asked.asked_of(parent, rows),
        ceilings={"truth": reference[rows]} if readout == TRUE_SHARES else {},
        similarity=asked.similarity(parent, rows),
        no_ceiling="the cells beneath were typed once: no replicate of their labels",
    )


def _spots_and_types(asked: Asked, child: str, parent: str) -> tuple[Floats, Floats]:
    """Return counts (patch, gene) and the mean counts of a training cell of each type (type, gene), shared genes."""
    plan = asked.model.part("composition", child, parent).plan
    own, shared = list(plan.of_child), list(plan.of_parent)
    counts = {
        level: to_scipy_csr(asked.graph.counts(level, names.RNA))[
            :, panel_columns(asked.graph, level, names.RNA).numpy()[columns]
        ]
        for level, columns in ((child, own), (parent, shared))
    }
    kind = types_of(asked.graph, child, asked.model.plan.compositions[child, parent])
    train = asked.training(child)
    types = range(len(asked.model.plan.compositions[child, parent]))
    profiles = [np.asarray(counts[child][train & (kind == one)].mean(axis=0)).ravel() for one in types]
    return counts[parent].toarray().astype(np.float64), np.stack(profiles)


def true_shares(asked: Asked, child: str, parent: str) -> Floats | None:
    """Return the true share of each type of `child` in every node of `parent` (parent, type); None if not known."""
    table = None if asked.truth is None else asked.truth.of_nodes(asked.graph, parent, "spots")
    columns = [f"share_{name}" for name in asked.model.plan.compositions[child, parent]]
    if table is None or not set(columns) <= set(table.columns):
        return None
    return np.nan_to_num(table[columns].to_numpy(np.float64))
