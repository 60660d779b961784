"""What a graph holds of a screen: what was done to each node, where and at what dose, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.tissue.conditions import parts_of

Ints = NDArray[np.integer]

CONDITION, CONTEXT, DONOR = names.CONDITION, names.CONTEXT, "donor"
# Values of a condition, the first that is there: effects as given, log-normalised expression, counts.
EFFECT, LOG_EXPRESSION = names.EFFECT, names.LOG_EXPRESSION
MODALITIES = (EFFECT, LOG_EXPRESSION, names.RNA)


class Setting(NamedTuple):
    """What was done, and where; parts are in alphabetical order, with a dose and hours [h] each, as far as known."""

    context: str
    parts: tuple[str, ...]
    doses: tuple[float, ...] = ()
    hours: tuple[float, ...] = ()

    def at_work(self) -> Setting:
        """Return the setting without what was given at dose 0 or for no time: that is nothing done."""
        kept = [i for i in range(len(self.parts)) if all(one[i] for one in (self.doses, self.hours) if one)]
        doses, hours = (tuple(one[i] for i in kept if one) for one in (self.doses, self.hours))
        return Setting(self.context, tuple(self.parts[i] for i in kept), doses, hours)


def screened(graph: TissueGraph) -> tuple[str, str] | None:
    """Return the level and modality of a graph's screen; None where no level has conditions that were measured."""
    for level in graph.levels:
        if CONDITION in graph.obs(level):
            found = [modality for modality in MODALITIES if modality in graph.modalities(level)]
            if found:
                return level, found[0]
    return None


def genes_of(graph: TissueGraph, level: str, modality: str) -> tuple[str, ...]:
    """Return the names of what was measured of each condition, of molecules those that all sections measured."""
    if modality in names.MOLECULE_OF:
        index = graph.obs(names.MOLECULE_OF[modality]).index
        return tuple(index[_measured_by_all(graph, level, modality)].astype(str))
    return tuple(map(str, graph[level][f"{modality}_names"]))


def values_of(graph: TissueGraph, level: str, modality: str, rows: Ints) -> sparse.csr_matrix:
    """Return what was measured of some nodes (node, gene), in the order of `genes_of`."""
    if modality in names.MOLECULE_OF:
        panel = _measured_by_all(graph, level, modality)
        return sparse.csr_matrix(to_scipy_csr(graph.counts(level, modality))[rows][:, panel], dtype=np.float64)
    return sparse.csr_matrix(graph[level][modality].numpy()[rows].astype(np.float64))


def _measured_by_all(graph: TissueGraph, level: str, modality: str) -> Ints:
    there = measured_molecules(graph, level, modality).all(dim=0) & graph[level][f"{modality}_panel"]
    return np.flatnonzero(there.numpy())


def settings_of(graph: TissueGraph, level: str, modality: str) -> tuple[list[Setting], Ints]:
    """Return the distinct settings of a graph's measured nodes, in order, and that of each node (node,), -1 for none.

    The context is the section node's, else the section's name; where several donors are of one, that of each donor is
    its own, so that effects are against controls of the same donor. Dose and hours are those that (intervention,
    applied_to, level) states, where it is there; of what was done under two kinds of one name the first counts.
    """
    obs = graph.obs(level)
    known = obs[CONDITION].notna().to_numpy() & graph[level][names.mask_name(modality)].numpy()
    rows = np.flatnonzero(known)
    condition = pd.factorize(obs[CONDITION].iloc[rows].astype(str))
    context = pd.factorize(_contexts(graph)[graph[level].section_index.numpy()[rows]])
    applied, amounts = _applied(graph, level)
    keys = np.column_stack([condition[0], context[0], applied[rows]])
    distinct, code = np.unique(keys, axis=0, return_inverse=True)
    found = []
    for name, where, *given in distinct.tolist():
        parts = parts_of(str(condition[1][name]))
        by_name = {amounts[one][0]: amounts[one][1:] for one in reversed(given) if one >= 0}
        told = np.array([by_name.get(part, (np.nan, np.nan)) for part in parts]).reshape(len(parts), 2)
        doses, hours = (tuple(one.tolist()) if np.isfinite(one).all() else () for one in told.T)
        found.append(Setting(str(context[1][where]), parts, doses, hours))
    order = sorted(set(found))
    place = {one: i for i, one in enumerate(order)}
    of_node = np.full(len(obs), -1)
    of_node[rows] = np.array([place[one] for one in found], np.int64)[code.reshape(-1)]
    return order, of_node


def labels_of_settings(settings: Sequence[Setting]) -> tuple[str, ...]:
    """Return the name of where each setting is: its context, with doses and hours where those differ in it."""
    amounts: dict[tuple[str, tuple[str, ...]], set[Setting]] = {}
    for one in settings:
        amounts.setdefault((one.context, one.parts), set()).add(one)
    several = {context for (context, parts), found in amounts.items() if parts and len(found) > 1}
    return tuple(amount_label(one) if one.context in several else one.context for one in settings)


def amount_label(one: Setting) -> str:
    """Return context, doses and hours of a setting as one name; equal amounts of several parts count once."""
    dose, hours = ("+".join(f"{v:g}" for v in dict.fromkeys(values)) for values in (one.doses, one.hours))
    return one.context + (f" · dose {dose}" if dose else "") + (f" · {hours} h" if hours else "")


def log_amounts(one: Setting) -> tuple[float, float]:
    """Return the mean logarithm of the doses and of the hours of a setting, 0 where it has none above zero."""
    dose, hours = ([math.log(value) for value in values if value > 0] for values in (one.doses, one.hours))
    return sum(dose) / max(len(dose), 1), sum(hours) / max(len(hours), 1)


def _contexts(graph: TissueGraph) -> NDArray[np.str_]:
    obs = graph.obs(names.SECTION)
    own = obs.index.astype(str).to_numpy()
    if CONTEXT not in obs:
        return np.asarray(own, np.str_)
    given = obs[CONTEXT].astype(object)
    context = pd.Series(given.where(given.notna() & (given != ""), own).to_numpy(str), dtype=object)
    if DONOR in obs:
        donor = pd.Series(obs[DONOR].to_numpy(object)).fillna("").astype(str)
        several = donor.groupby(context).transform("nunique") > 1
        context = context.where(~several | (donor == ""), context + " · " + donor)
    return np.asarray(context.to_numpy(), np.str_)


def _applied(graph: TissueGraph, level: str) -> tuple[Ints, list[tuple[str, float, float]]]:
    """Return which distinct (name, dose, hours) were applied to each node (node, place), -1 for none, and these."""
    relation = (names.INTERVENTION, names.APPLIED_TO, level)
    n = int(graph[level].num_nodes)
    if relation not in graph.edge_types:
        return np.full((n, 1), -1), []
    adjacency = to_scipy_csr(graph[relation].adj_t)
    name = np.array([str(key).split(":", 1)[-1] for key in graph.obs(names.INTERVENTION).index])
    edges = pd.DataFrame(
        {"name": name[adjacency.indices], "dose": graph[relation].dose.numpy(), "hours": graph[relation].hours.numpy()}
    )
    code = edges.groupby(["name", "dose", "hours"], sort=True, dropna=False).ngroup().to_numpy()
    first = edges.iloc[np.unique(code, return_index=True)[1]]
    amounts = list(zip(first["name"].tolist(), first["dose"].tolist(), first["hours"].tolist(), strict=True))
    number = np.diff(adjacency.indptr)
    found = np.full((n, max(int(number.max(initial=0)), 1)), -1)
    row = np.repeat(np.arange(n), number)
    found[row, np.arange(len(code)) - adjacency.indptr[row]] = code
    return np.sort(found, axis=1), amounts
