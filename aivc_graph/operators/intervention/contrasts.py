"""Treated and untreated tissue of the training donors, group by group: what effects of interventions are fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.interventions import intervention_dose
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.profiles import measured_share
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.windows import Window, windows
from aivc_graph.operators.counts import CountInput, thinned
from aivc_graph.operators.intervention.exposure import exposure
from aivc_graph.operators.intervention_plan import (
    InterventionPlan,
    donor_of_sections,
    section_arms,
    together,
    training_sections,
)
from aivc_graph.operators.product import SparseOperator, row_mean

if TYPE_CHECKING:
    from aivc_graph.operators.intervention.component_shift import ComponentShift

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

HANDED_ON = (0.0, 0.5, 0.75, 0.9, 0.95)
NEAR_BINS = np.array([0.003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.4, 0.6, 0.8, 0.95])
LEAST_COUNTS = 200.0


@dataclass(frozen=True)
class Contrasts:
    """One row a group of nodes of one section and component, treated or not, at about one exposure.

    Shapes: `donor` (row,) position among the plan's donors; `section` and `component` (row,); `counts` (row, molecule),
    what is `expected` of all untreated nodes of that component, and the variance of their log ratio since nodes of a
    group differ, `uneven`; `applied` (row, key) share of nodes treated, or
    that lie in an untreated section where a section of that donor was treated; `near` (row, key, handed on) mean
    exposure to those; `local` (row, key) whether that is a part of the section only; `tile` (row,) piece of an
    untreated section, as large as what is treated of others, -1 in treated ones; `dose`, `hours` (row, key), zero where
    not given; `nodes` (row,) their number.
    """

    donor: Rows
    section: Rows
    component: Rows
    counts: Floats
    expected: Floats
    uneven: Floats
    applied: Floats
    near: Floats
    local: NDArray[np.bool_]
    tile: Rows
    dose: Floats
    hours: Floats
    nodes: Floats

    def take(self, rows: NDArray[np.bool_]) -> Contrasts:
        """Return some of the rows."""
        return Contrasts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Encoded:
    """What the counts alone say of the nodes of the treated level, window by window of `size` nodes."""

    measurement: Any
    plan: InterventionPlan
    source: Any
    size: int
    seed: int

    @property
    def graph(self) -> TissueGraph:
        """The graph, or its structure."""
        structure: TissueGraph = self.source.structure
        return structure

    def windows(self) -> Iterator[tuple[Window, CountInput]]:
        """Yield windows without a halo, and the counts in them."""
        for window in windows(self.source, (), self.size):
            yield window, self.measurement.prepare(window.graph, "cpu")

    def halves(self, window: Window, data: CountInput) -> tuple[CountInput, CountInput]:
        """Split the counts of a window's training nodes in two, each time in the same way."""
        training = window.graph.in_split(self.plan.level, names.TRAIN)
        number = int(data.counts.crow_indices().diff()[training].sum())
        generator = np.random.default_rng([self.seed, number])
        return thinned(data, training, float(self.measurement.target_depth), 0.5, generator)

    def nodes(self, half: int | None = None) -> Floats:
        """Return every node's own encoding (node, latent), by one half of its counts alone; NaN where it has none."""
        found = np.full((int(self.graph[self.plan.level].num_nodes), self.plan.latent), np.nan, np.float32)
        for window, data in self.windows():
            counted = window.core[self.plan.level] & (data.mask > 0)
            state = self.measurement.encode(data if half is None else self.halves(window, data)[half])
            found[window.rows[self.plan.level][counted].numpy()] = state[counted].numpy()
        return found


def make_contrasts(shift: ComponentShift, encoded: Encoded) -> Contrasts:
    """Compare each group of nodes with the untreated training sections, for training donors that have both.

    Each node's counts are thinned into two halves: one says which component it is of, the other is compared, and then
    the other way round. Were both the same counts, a component would be chosen by the very molecules whose change is
    asked for.
    """
    graph, plan = encoded.graph, encoded.plan
    strength = np.column_stack([intervention_dose(graph, plan.level, key) > 0 for key in plan.keys]).astype(np.float32)
    section, done = graph[plan.level].section_index.numpy(), (strength > 0) @ (1 << np.arange(len(plan.keys)))
    strength = _where_others_were(graph, plan, strength)
    near = _exposures(graph, plan, strength)
    bins = np.digitize(near[:, :, -1].max(axis=1), NEAR_BINS)
    number = np.maximum(np.bincount(section), 1)
    share = np.stack([np.bincount(section, column, len(number)) for column in strength.T], axis=1) / number[:, None]
    local = (share > 0) & (share < 1)
    tile = _tiles(graph, plan, done > 0, float(share[local].mean()) if local.any() else 1.0)
    labels, training = [], []
    for half in (0, 1):
        component = _components(shift, encoded.nodes(half))
        labels.append(np.column_stack([section, component, tile, done, bins]))
        training.append(graph.in_split(plan.level, names.TRAIN).numpy() & (component >= 0))
    groups, place = np.unique(np.concatenate(labels)[np.concatenate(training)], axis=0, return_inverse=True)
    group = np.full(2 * len(section), -1)
    group[np.concatenate(training)] = place.reshape(-1)
    counts, between = _sum_counts(encoded, group.reshape(2, -1), groups)
    averager = _averager(group, len(groups))
    twice = averager[:, : len(section)] + averager[:, len(section) :]
    means = twice @ strength, (twice @ near.reshape(len(near), -1)).reshape(-1, *near.shape[1:])
    nodes = np.bincount(group[group >= 0], minlength=len(groups)) / 2
    of = groups[:, 0], groups[:, 1], groups[:, 2]
    uneven = between[groups[:, 1]] / nodes[:, None]
    return _against_profile(graph, plan, *of, local[groups[:, 0]], counts, uneven, nodes, *means)


def _where_others_were(graph: TissueGraph, plan: InterventionPlan, strength: Floats) -> Floats:
    """Return `strength` (node, key) with untreated sections as if treated where sections of their donor were.

    Tissue is not alike in the middle and at the rim; what treated places have in common with the same places of
    untreated sections, by their position between the section's borders, is not the treatment's doing.
    """
    from scipy.spatial import cKDTree

    section, pos = graph[plan.level].section_index.numpy(), graph[plan.level].pos.numpy()
    rows = [np.flatnonzero(section == s) for s in range(section.max() + 1)]
    share = np.array([strength[r].any(axis=1).mean() if len(r) else np.nan for r in rows])
    donors, placed = np.array(donor_of_sections(graph))[: len(rows)], strength.copy()
    for s in np.flatnonzero(share == 0):
        for other in np.flatnonzero((share > 0) & (share < 1) & (donors == donors[s])):
            nearest = cKDTree(_between_borders(pos[rows[other]])).query(_between_borders(pos[rows[s]]))[1]
            placed[rows[s]] = np.maximum(placed[rows[s]], strength[rows[other]][nearest])
    return placed


def _between_borders(pos: Floats) -> Floats:
    """Return positions as shares of their extent (node, 2)."""
    return np.asarray((pos - pos.min(axis=0)) / np.maximum(np.ptp(pos, axis=0), 1e-6))


def _tiles(graph: TissueGraph, plan: InterventionPlan, treated: NDArray[np.bool_], share: float) -> Rows:
    """Return the square piece of its section each node lies in (node,), about `share` of it; -1 in treated sections."""
    section, pos = graph[plan.level].section_index.numpy(), graph[plan.level].pos.numpy()
    tile = np.full(len(section), -1)
    for s in set(section) - set(section[treated]):
        rows = np.flatnonzero(section == s)
        extent = np.maximum(np.ptp(pos[rows], axis=0), 1e-6)
        pieces = np.maximum(np.round(extent / np.sqrt(extent.prod() * share)), 1)
        across = np.minimum(_between_borders(pos[rows]) * pieces, pieces - 1).astype(int)
        tile[rows] = across[:, 0] * int(pieces[1]) + across[:, 1]
    return tile


def _against_profile(
    graph: TissueGraph,
    plan: InterventionPlan,
    section: Rows,
    component: Rows,
    tile: Rows,
    local: NDArray[np.bool_],
    counts: Floats,
    uneven: Floats,
    nodes: Floats,
    applied: Floats,
    near: Floats,
) -> Contrasts:
    arms, donors = section_arms(graph, plan.level), donor_of_sections(graph)
    usable = {s for s in training_sections(graph, plan.level) if donors[s] in plan.donors and together(arms[s])}
    untreated = np.array([s in usable and not arms[s] for s in section])
    there = measured_molecules(graph, plan.level, plan.modality)[:, panel_columns(graph, plan.level, plan.modality)]
    due = counts.sum(axis=1) / measured_share(graph, plan.level, plan.modality)[section]
    profile, known = _profiles(counts, due, there.numpy()[section], untreated, component, plan.components)
    rows = np.flatnonzero(np.isin(section, list(usable)) & (counts.sum(axis=1) >= LEAST_COUNTS))
    expected = profile[component[rows]] * counts[rows].sum(axis=1, keepdims=True)
    if not (measured := there.numpy()[section[rows]] & known[component[rows]]).all():
        # Of what was not measured, here or untreated, no departure is known.
        share = counts[rows].sum(axis=1, keepdims=True, where=measured) / counts[rows].sum(axis=1, keepdims=True)
        expected *= share / (profile[component[rows]] * measured).sum(axis=1, keepdims=True)
        counts[rows] = np.where(measured, counts[rows], expected)
    dose, hours = (np.zeros((len(rows), len(plan.keys))) for _ in range(2))
    for i, row in enumerate(rows):
        for key, (amount, duration, _) in arms[section[row]].items():
            dose[i, plan.keys.index(key)], hours[i, plan.keys.index(key)] = amount, duration
    return Contrasts(
        donor=np.array([plan.donors.index(donors[s]) for s in section[rows]]),
        section=section[rows],
        component=component[rows],
        counts=counts[rows],
        expected=expected,
        uneven=uneven[rows],
        applied=applied[rows],
        near=near[rows],
        local=local[rows],
        tile=tile[rows],
        dose=dose,
        hours=hours,
        nodes=nodes[rows],
    )


def _profiles(
    counts: Floats, due: Floats, there: NDArray[np.bool_], untreated: NDArray[np.bool_], component: Rows, n: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the shares of molecules in each of `n` components of untreated groups (component, molecule).

    Of a molecule as far as groups measured it, `there` (group, molecule), over the counts `due` to them (group,); and
    of which molecules any group did (component, molecule).
    """
    pooled, whole = [], []
    for rows in (untreated & (component == j) for j in range(n)):
        pooled.append(counts[rows].sum(axis=0))
        whole.append((due[rows, None] * there[rows]).sum(axis=0))
    found, known = np.stack(pooled) + 0.5, np.ones((n, there.shape[1]), bool)
    if not there.all():
        known = np.stack(whole) > 0
        found *= np.where(known, np.max(whole, axis=1, keepdims=True) / np.maximum(whole, 1e-12), 1.0)
    return found / found.sum(axis=1, keepdims=True), known


def _components(shift: ComponentShift, state: Floats) -> Rows:
    """Return each node's nearest component, -1 where it has no counts."""
    known = np.isfinite(state).all(axis=1)
    nearest = np.full(len(state), -1)
    nearest[known] = shift.components(torch.from_numpy(state[known]))[0].argmax(dim=1).numpy()
    return nearest


def _exposures(graph: TissueGraph, plan: InterventionPlan, strength: Floats) -> Floats:
    """Return the exposure (node, key, handed on) to each intervention at strength one."""
    near = SparseOperator.of(row_mean(graph[plan.level, names.NEAR, plan.level].adj_t))
    fields = [torch.from_numpy(np.ascontiguousarray(column)) for column in strength.T]
    by_key = [[exposure(field, near, a, plan.hops).numpy() for a in HANDED_ON] for field in fields]
    return np.moveaxis(np.array(by_key, np.float32), 2, 0)


def _averager(group: Rows, n_groups: int) -> sparse.csr_matrix:
    rows = np.flatnonzero(group >= 0)
    number = np.bincount(group[rows], minlength=n_groups)
    return sparse.csr_matrix((1 / number[group[rows]], (group[rows], rows)), shape=(n_groups, len(group)))


def _sum_counts(encoded: Encoded, group: Rows, groups: Rows) -> tuple[Floats, Floats]:
    """Return the counts of each group (group, molecule): grouped by what the one half says, the other is summed.

    And the variance between the nodes of each component of a section that are treated alike, as a variance of
    logarithms (component, molecule); see `beyond_counting`. `groups` (group, label) as in `make_contrasts`.
    """
    kinds, kind = np.unique(groups[:, [0, 1, 3]], axis=0, return_inverse=True)
    component = np.eye(encoded.plan.components)[kinds[:, 1]].T
    total = np.zeros((len(groups), encoded.plan.n_molecules))
    beyond, due = np.zeros((2, encoded.plan.components, encoded.plan.n_molecules))
    for window, data in encoded.windows():
        core, rows_of = window.core[encoded.plan.level].numpy(), window.rows[encoded.plan.level].numpy()
        for grouped, half in zip(group, reversed(encoded.halves(window, data)), strict=True):
            own = np.where(core, grouped[rows_of], -1)
            rows = np.flatnonzero(own >= 0)
            counts = to_scipy_csr(half.counts)[rows]
            total += (_adder(own[rows], len(groups)) @ counts).toarray()
            found = beyond_counting(counts, _adder(kind.reshape(-1)[own[rows]], len(kinds)))
            beyond, due = beyond + component @ found[0], due + component @ found[1]
    return total, np.maximum(beyond, 0.0) / np.maximum(due, 1e-12)


def _adder(of: Rows, n: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(len(of)), (of, np.arange(len(of)))), shape=(n, len(of)))


def beyond_counting(counts: sparse.csr_matrix, adder: sparse.csr_matrix) -> tuple[Floats, Floats]:
    r"""Return by how much nodes of one kind differ beyond counting, and what that is a share of (kind, molecule).

    .. math:: \sum_i (y_i - p\,n_i)^2 - p \Bigl(N - \frac{\sum_i n_i^2}{N}\Bigr), \qquad
              p^2 \Bigl(\sum_i n_i^2 - \frac{2 \sum_i n_i^3}{N} + \frac{(\sum_i n_i^2)^2}{N^2}\Bigr)

    of `counts` y (node, molecule) with n those of a node, N of the kind, and p a molecule's share in it. The ratio of
    their sums is the variance φ of gamma-Poisson counts by moments, a
    little low where nodes of a kind are few. Each node is one draw, however much it counted.

    References
    ----------
    Robinson & Smyth 2008, doi:10.1093/biostatistics/kxm030 (dispersion of counts between samples of a kind).
    """
    depth = np.asarray(counts.sum(axis=1)).ravel()
    total, squared, cubed = ((adder @ depth**power)[:, None] for power in (1, 2, 3))
    found, squares, by_depth = (
        (adder @ part).toarray() for part in (counts, counts.multiply(counts), sparse.diags(depth) @ counts)
    )
    total = np.maximum(total, 1.0)
    share, nodes = found / total, squared / total
    beyond = squares - 2 * share * by_depth + share**2 * squared - share * (total - nodes)
    return beyond, share**2 * (squared - 2 * cubed / total + nodes**2)
