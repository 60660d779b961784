"""Expression that a section did not measure: what the molecules it shares with training tell beyond its states."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, measured_name, panel_columns
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.graph.windows import cut, receptive_field
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.gate import EXPRESSION, LEAST_LEFT_OUT
from aivc_graph.operators.intervention_plan import donor_of_sections
from aivc_graph.operators.panel_residuals import LEAST_NODES, PanelResiduals, PanelTeachers, fit_residuals
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating[Any]]
# Training nodes, and the regions they are taken from: whole neighbourhoods of few are read sooner than of all.
MOST_NODES, MOST_REGIONS = 4_000, 32
# Held out in turn: so many donors, or stretches of tissue.
FOLDS, CHUNK = 8, 4_096


@dataclass(frozen=True)
class SharedMolecules:
    """What is told beyond the state at a level, by the panel of a section."""

    by_section: dict[int, PanelResiduals]
    depth: float

    def told(self, shares: Tensor, data: CountInput) -> Tensor:
        """Return expected shares (node, molecule), those decoded moved by what each counted node measured."""
        found = shares.clone()
        section, counted = data.section.numpy(), data.mask.numpy() > 0
        scaled = to_scipy_csr(data.scaled.forward_csr)
        for own, residuals in self.by_section.items():
            rows = np.flatnonzero((section == own) & counted & (np.diff(scaled.indptr) > 0))
            for start in range(0, len(rows), CHUNK):
                here = rows[start : start + CHUNK]
                rate = self.depth * shares[here].double().numpy()
                told = residuals.told(rate, scaled[here].toarray()) / self.depth
                found[here] = torch.from_numpy(told / told.sum(axis=1, keepdims=True)).to(found)
        return found


def shared_molecules(
    model: TissueModel, graph: TissueGraph, home: TissueGraph, level: str, modality: str
) -> SharedMolecules | None:
    """Return what the sections of `graph` that measured a part of a level's panel are told beyond the state.

    Taught by the training nodes of `home`, once for each panel. None where all sections measured all.
    """
    if modality not in names.MOLECULE_OF:
        return None
    panel = panel_columns(graph, level, modality)
    there = measured_molecules(graph, level, modality)[:, panel].numpy()
    who = np.unique(graph[level].section_index[graph[level][names.mask_name(modality)]].numpy())
    who = who[~there[who].all(axis=1)]
    if not len(who) or not len(nodes := _teachers(home, level, modality)):
        return None
    by_panel: dict[bytes, PanelResiduals] = {}
    for section in who:
        key = there[section].tobytes()
        if key not in by_panel:
            by_panel[key] = _fitted(model, home, (level, modality), there[section], nodes)
    depth = float(model.count_operator(level, modality).target_depth)
    return SharedMolecules({int(section): by_panel[there[section].tobytes()] for section in who}, depth)


def _teachers(home: TissueGraph, level: str, modality: str) -> NDArray[np.int64]:
    """Return training nodes that were measured, evenly from regions that are evenly taken; none where too few."""
    measured = home[level][names.mask_name(modality)] & home.in_split(level, names.TRAIN)
    rows = np.flatnonzero(measured.numpy())
    region = home[level].region_index.numpy()[rows]
    each = np.unique(region)
    kept = rows[np.isin(region, each[evenly(len(each), MOST_REGIONS)])]
    return kept[evenly(len(kept), MOST_NODES)] if len(kept) >= LEAST_NODES else kept[:0]


def _fitted(
    model: TissueModel, home: TissueGraph, slot: tuple[str, str], seen: NDArray[np.bool_], nodes: NDArray[np.int64]
) -> PanelResiduals:
    """Return what training nodes teach of a panel, their states read as if their sections had measured no more."""
    level, part = slot[0], model.count_operator(*slot)
    rows = receptive_field(home, {level: nodes}, model.plan.steps)
    near, inside = cut(home, rows), np.searchsorted(rows[level], nodes)
    with torch.no_grad(), model.asked(EXPRESSION):
        inputs = model.prepare(with_panel(near, home, slot, seen))
        shares = model.expression(model(inputs), inputs, *slot)[inside]
    whole, depth = part.prepare(near, "cpu"), float(part.target_depth)
    shown, measured = (
        to_scipy_csr(one.scaled.forward_csr)[inside].toarray() for one in (inputs.measured(*slot), whole)
    )
    section = whole.section[inside]
    usual = depth * whole.covered[section].double().numpy()
    firm = np.minimum(part.depth(whole)[inside].double().numpy() / usual, 1.0)
    known = whole.panels[whole.panel_of[section]].numpy() > 0
    rate, group = depth * shares.double().numpy(), _groups(home, level, nodes)
    return fit_residuals(seen, PanelTeachers(rate, shown, np.expm1(measured), known, firm, group))


def with_panel(graph: TissueGraph, like: TissueGraph, slot: tuple[str, str], seen: NDArray[np.bool_]) -> TissueGraph:
    """Return the graph as if no section had measured molecules beyond those `seen` (molecule of the panel,)."""
    (level, modality), found = slot, copy.copy(graph)
    panel = graph[level][f"{modality}_panel"].clone()
    panel[panel_columns(graph, level, modality)] = torch.from_numpy(seen)
    found[names.SECTION][measured_name(level, modality)] = measured_molecules(graph, level, modality) & panel
    relation = (names.MOLECULE_OF[modality], names.OBSERVED_IN, level)
    counts = to_scipy_csr(graph.counts(level, modality)).multiply(panel.numpy()).tocsr()
    counts.eliminate_zeros()
    found[relation].adj_t = to_torch_csr(counts.astype(np.float32))
    add_section_profiles(found, like)
    return found


def _groups(home: TissueGraph, level: str, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what is held out together (node,): donors, or regions in turn where donors are few."""
    donors = np.unique(donor_of_sections(home), return_inverse=True)[1]
    group = donors[home[level].section_index.numpy()[nodes]]
    if len(np.unique(group)) < LEAST_LEFT_OUT:
        group = np.unique(home[level].region_index.numpy()[nodes], return_inverse=True)[1]
    each = np.unique(group, return_inverse=True)[1]
    return each * min(FOLDS, each.max() + 1) // (each.max() + 1)
