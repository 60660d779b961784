"""Does what a model says of an assay look like the assay? Draws beside measurements, by modality, level and section."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.states import run_windows
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.float64]
# Values that are drawn of a section, nodes of it that are at least and at most looked at, and draws of each.
VALUES, LEAST_NODES, MOST_NODES, DRAWS = 400_000, 20, 300, 10
# Sections that are looked at, evenly taken, and groups of features of like mean.
MOST_SECTIONS, GROUPS = 24, 12
# Background of an antibody is what the lowest quarter of nodes show of it.
LOWEST = 0.25


@torch.no_grad()
def predictive_checks(
    model: TissueModel, graph: TissueGraph, asked: dict[str, NDArray[np.bool_]], seed: int = 0
) -> list[dict[str, Any]]:
    """Return for each level, modality and section what was measured beside what the model draws for the same nodes.

    Draws are posterior predictive: of the distribution that the model gives each node after its own measurements and
    messages. ``zeros`` is the share of values that are zero, ``variance`` the ratio of measured to drawn variance (the
    middle one of all features, 1 where they agree), ``background`` the mean log1p count of the lowest quarter of nodes,
    each as {measured, drawn}; of features no zeros are told. ``curve`` holds features in groups of like mean: the mean,
    variance and zeros of both.

    Parameters
    ----------
    asked
        Who is looked at (node,), by level.

    References
    ----------
    Gelman, Meng & Stern 1996, Statistica Sinica 6:733-807 (posterior predictive checks).
    """
    platform = graph.obs(names.SECTION).get("platform")
    generator = torch.Generator().manual_seed(seed)
    gathered: dict[tuple[str, str, int], list[tuple[Any, Floats]]] = {}
    for inputs, state, core, places in run_windows(model, graph):
        for part in model.parts_of("measurement"):
            level, data = part.plan.level, inputs.measured(*part.slot)
            values = part.observation(data)
            rows = core[level].numpy() & asked[level][places[level].numpy()] & (data.mask.cpu().numpy() > 0)
            for section, some in _by_section(inputs.section[level].numpy(), rows, len(part.plan.names)):
                said = part.likelihood(state.z[level], data).at(torch.from_numpy(some))
                measured = (_rows_of(values, some) if values.layout == torch.sparse_csr else values[some]).double()
                kept = gathered.setdefault((*part.key, section), [])
                kept.append((said, measured.numpy()))
    found = []
    for (level, modality, section), pieces in gathered.items():
        part = model.part("measurement", level, modality)
        measured = np.concatenate([one for _, one in pieces])
        drawn = [torch.cat([said.sample(generator) for said, _ in pieces]).double().numpy() for _ in range(DRAWS)]
        member = next(one.member for one in model.plan.parts if one.kind == "measurement" and one.facts == part.plan)
        found.append(
            {
                "level": level,
                "modality": modality,
                "member": member,
                "section": str(graph.obs(names.SECTION).index[section]),
                "platform": "" if platform is None else str(platform.iloc[section]),
                "nodes": len(measured),
                "features": measured.shape[1],
                **compared(measured, np.stack(drawn), counts=modality in names.MOLECULE_OF),
            }
        )
    return found


def compared(measured: Floats, drawn: Floats, *, counts: bool) -> dict[str, Any]:
    """Return what is told of measured values (node, feature) beside draws of them (draw, node, feature)."""
    known = np.isfinite(measured)
    measured, drawn = np.where(known, measured, np.nan), np.where(known, drawn, np.nan)
    mean, variance = np.nanmean(measured, axis=0), np.nanvar(measured, axis=0)
    # Some features have one value throughout, here or there, and say nothing of how the two spread.
    drawn_variance = np.nanvar(drawn, axis=1).mean(axis=0)
    both = (variance > 0) & (drawn_variance > 0)
    found: dict[str, Any] = {
        "variance": round(float(np.median(variance[both] / drawn_variance[both])), 4) if both.any() else 1.0,
    }
    curve = {
        "mean": (mean, np.nanmean(drawn, axis=(0, 1))),
        "variance": (variance, drawn_variance),
    }
    if counts:
        curve["zeros"] = ((measured == 0).mean(axis=0), (drawn == 0).mean(axis=(0, 1)))
        found["zeros"] = _pair(*(one.mean() for one in curve["zeros"]))
        found["background"] = _pair(_background(measured), float(np.mean([_background(one) for one in drawn])))
    order = np.array_split(np.argsort(mean, kind="stable"), min(GROUPS, len(mean)))
    found["curve"] = [
        {name: _pair(*(one[group].mean() for one in pair)) for name, pair in curve.items()} for group in order
    ]
    return found


def _background(values: Floats) -> float:
    """Return the mean over features of log1p counts of the lowest quarter of nodes."""
    lowest = np.sort(values, axis=0)[: max(int(LOWEST * len(values)), 1)]
    return float(np.log1p(lowest).mean())


def _pair(measured: float, drawn: float) -> dict[str, float]:
    return {"measured": round(float(measured), 5), "drawn": round(float(drawn), 5)}


def _rows_of(counts: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(to_scipy_csr(counts)[rows].toarray())


def _by_section(
    section: NDArray[np.int64], rows: NDArray[np.bool_], features: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """Return which nodes of each section are looked at, evenly taken."""
    there = np.unique(section[rows])
    there = there[evenly(len(there), MOST_SECTIONS)]
    most = int(np.clip(VALUES // features, LEAST_NODES, MOST_NODES))
    found = []
    for one in there:
        own = np.flatnonzero(rows & (section == one))
        found.append((int(one), own[evenly(len(own), most)]))
    return found
