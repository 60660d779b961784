"""Half of the molecules of a patch, told by what the other half says it is made of: a score without known truth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.composition.mixture import least_squares
from aivc_graph.operators.composition.reference import ReferenceComposition
from aivc_graph.operators.composition.reference_fit import thinned
from aivc_graph.pipeline.tasks.task import TASKS, Asked, Mask
from aivc_graph.query.answers import PER

MOST = 2_000
# Of whose molecules there is no half worth telling.
LEAST = 20


@TASKS.register("spot_to_hidden_molecules", needs="patches with counts, and a reference of dissociated, labelled cells")
def spot_to_hidden_molecules(asked: Asked) -> list[Scored]:
    """Hide half of the molecules of scored patches, and tell them by the composition that the other half makes likely.

    Intrinsic: it says how well types of the reference, as the platform sees them, account for a patch, and not whether
    its shares are true.
    """
    parts = [part for part in asked.model.parts_of("composition") if isinstance(part, ReferenceComposition)]
    return [found for part in parts if (found := _scored(asked, part)) is not None]


def _scored(asked: Asked, part: ReferenceComposition) -> Scored | None:
    parent = part.plan.parent
    counts, there = _counts(asked, part)
    deep = np.asarray(counts.sum(dim=1) >= LEAST)
    rows, train = (_some(who & deep & asked.counted(parent)) for who in (asked.scored(parent), asked.training(parent)))
    if not rows.any() or not train.any():
        return None
    shown, hidden = thinned(counts[torch.from_numpy(rows)])
    rates, profiles, whole = part.rates[:, there], part.profiles[:, there], torch.zeros(len(shown), len(there))
    whole[:, there] = shown
    usual = counts[torch.from_numpy(train)].sum(dim=0, keepdim=True)
    told = {"global_mean": usual.expand_as(shown), "nnls": least_squares(shown, profiles) @ profiles}
    return Scored(
        task="spot_to_hidden_molecules",
        axis="scale",
        split=asked.split,
        scale=parent,
        modality=names.RNA,
        readout="half of the molecules, hidden",
        measured=_logs(hidden),
        model=_logs(part(whole, there)[0] @ rates),
        baselines={name: _logs(each) for name, each in told.items()},
        metrics=("rmse_log", "pearson_by_gene"),
        units=asked.units(parent, rows),
        leakage=asked.leakage(parent, rows)["any"],
        similarity=asked.similarity(parent, rows),
        no_ceiling="what is hidden was counted once",
    )


def _counts(asked: Asked, part: ReferenceComposition) -> tuple[Tensor, Tensor]:
    """Return counts (patch, gene) of those genes of the part that all sections measured, and which these are."""
    graph, parent = asked.graph, part.plan.parent
    columns = panel_columns(graph, parent, names.RNA)[torch.tensor(part.plan.of_parent)][part.genes]
    there = measured_molecules(graph, parent, names.RNA)[:, columns].all(dim=0)
    counts = to_scipy_csr(graph.counts(parent, names.RNA))[:, columns[there].numpy()].toarray()
    return torch.from_numpy(counts.astype(np.float32)), there


def _some(who: Mask) -> Mask:
    """Return at most 2,000 of them, evenly spaced."""
    rows = np.flatnonzero(who)
    kept = np.zeros_like(who)
    kept[rows[:: -(-len(rows) // MOST) or 1]] = True
    return kept


def _logs(counts: Tensor) -> NDArray[np.float64]:
    total = counts.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return np.asarray(torch.log1p(PER * counts / total).double().numpy())
