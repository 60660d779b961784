"""What an intervention would do: the difference of two rollouts of one tissue, with and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse, special

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.footprints import read_footprints
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention.component_shift import ComponentShift
from aivc_graph.operators.intervention.exposure import Field, exposure
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.query.answers import MIN_UNITS, PER, no_effects
from aivc_graph.query.states import niche_level, run_windows
from aivc_graph.tissue.intervention import Combination, Intervention

Places = Callable[[str], tuple[pd.DataFrame, Any]]
CONFIDENCE = 0.95
ENOUGH_TREATED = 20.0
READOUTS = ("genes", "pathways")
ACTIVITY_UNIT = "log2 expression per unit of weight"
SLACK = 1e-6
# Counts by which the model's word of untreated expression weighs against those of a component: it is out by a fifth.
FIRM = 25.0


@dataclass(frozen=True)
class WhatIf:
    """The answer to an intervention, computed when it is read out.

    Parameters
    ----------
    graph, model
        The tissue asked, and the model that answers.
    places
        From a kind of place (a level, or ``niche``) to its table, and the matrix (place, node) that averages over each.
    parts
        What is done.
    where
        Nodes of the base level that it is done to, boolean (node,).
    fields
        Row of each trained intervention → its strength and exposure over the nodes.
    supported
        Nodes for which training has seen the like, boolean (node,): the intervention, its dose and time, and treated
        nodes of that kind.
    reasons
        Why nodes, or all of them, are out of support.
    """

    graph: TissueGraph
    model: TissueModel
    places: Places
    parts: tuple[Intervention, ...]
    where: np.ndarray
    fields: dict[int, Field]
    supported: np.ndarray
    reasons: tuple[str, ...]

    def readout(
        self,
        what: str = "genes",
        by: str = "niche",
        genes: list[str] | None = None,
        section: str | None = None,
        weights: pd.DataFrame | str | Path | None = None,
    ) -> pd.DataFrame:
        """Return the effect on expression, or on the activity of pathways.

        Parameters
        ----------
        what
            ``genes``, in counts per 10,000 of the measured panel, or ``pathways``, as `Footprints` tells them.
        by
            ``cell``, ``patch``, ``region`` or ``niche``.
        genes
            Symbols; all measured ones if not given.
        section
            Only the nodes of this section; of all sections if not given.
        weights
            What tells of a pathway: a file as `read_footprints` takes it, or its table.

        Returns
        -------
        DataFrame
            One row a place and ``gene`` or ``pathway``: ``n_treated`` (how many of the place's nodes it is done to),
            ``estimate`` (treated − untreated), ``untreated``, ``treated``, ``lower`` and ``upper`` (95 %, jackknife
            over the training donors it was given to, of effects that are not shrunken as the estimate is; NaN where
            they are fewer than five), ``n_units``,
            ``interval_over``, ``supported`` and ``unit``. Out of support there is no answer: ``estimate``, ``treated``
            and the interval are NaN.

        References
        ----------
        Efron & Stein 1981, doi:10.1214/aos/1176345462 (the jackknife estimate of variance).
        """
        if what not in READOUTS:
            raise unknown_name(QueryError, "readout", "readout", what, READOUTS)
        plan = self.model.plan.interventions
        assert plan is not None
        panel = list(self.model.plan.counts[plan.level][plan.modality])
        footprints = _footprints(weights, panel) if what == "pathways" else None
        chosen = panel if genes is None or footprints is not None else list(dict.fromkeys(genes))
        for gene in chosen:
            if gene not in panel:
                raise unknown_name(QueryError, "readout", "measured gene", gene, panel)
        places, weight = self.places(by)
        if section is not None:
            places, weight = self._inside(places, weight, section)
        untreated, copies, error = self.rollouts(weight, [panel.index(gene) for gene in chosen])
        share = self._share_supported(weight)
        n_treated = np.asarray((weight != 0) @ self.where.astype(int)).ravel()
        places = places.assign(n_treated=n_treated)
        if footprints is None:
            return self._table(places, "gene", chosen, untreated, copies, error, share, f"counts per {PER:,.0f}")
        untreated, copies = footprints.activity(untreated), footprints.activity(copies)
        error = np.zeros_like(untreated)  # a change of logarithms has no level
        return self._table(places, "pathway", footprints.sources, untreated, copies, error, share, ACTIVITY_UNIT)

    def _share_supported(self, weight: Any) -> np.ndarray:
        """Return the share of what an intervention reaches in each place that is in support (place,); of all, if none.

        Nodes that nothing reaches say nothing of whether the others are answered for.
        """
        reached = np.any([(f.strength > 0).numpy() | (f.exposure > 0).numpy() for f in self.fields.values()], axis=0)
        part, answered = (
            np.asarray(weight @ rows.astype(float)).ravel() for rows in (reached, reached & self.supported)
        )
        whole = np.asarray(weight @ self.supported.astype(float)).ravel()
        return np.where(part > 0, answered / np.maximum(part, 1e-12), whole)

    def plot(self, gene: str, section: str | None = None) -> Any:
        """Draw the effect on one gene over the tissue, grey where unsupported; returns a matplotlib Axes."""
        from aivc_graph.plot.effect_map import effect_map

        level = niche_level(self.model)
        obs, store = self.graph.obs(level), self.graph[level]
        section = section or self._section()
        rows = (obs["section"] == section).to_numpy()
        if not rows.any():
            raise unknown_name(QueryError, "plot", "section", section, obs["section"].unique())
        done = " + ".join(part.key.replace(":", " of ") for part in self.parts)
        return effect_map(
            store.pos.numpy()[rows],
            self.readout(by=level, genes=[gene], section=section)["estimate"],
            supported=self.supported[rows],
            treated=self.where[rows],
            size_um=store.size_um.numpy()[rows],
            title=f"{section}: {done}",
            label=f"change of {gene} [counts per {PER:,.0f}]",
        )

    def _inside(self, places: pd.DataFrame, weight: Any, section: str) -> tuple[pd.DataFrame, Any]:
        """Return the places that have nodes in a section, averaged over those alone."""
        of_node = self.graph.obs(niche_level(self.model))["section"]
        if section not in set(of_node):
            raise unknown_name(QueryError, "readout", "section", section, of_node.unique())
        weight = weight @ sparse.diags((of_node == section).to_numpy(float))
        total = np.asarray(weight.sum(axis=1)).ravel()
        kept = np.flatnonzero(total > 0)
        return places.iloc[kept], sparse.diags(1 / total[kept]) @ weight.tocsr()[kept]

    def _section(self) -> str:
        """Return the section with most treated nodes."""
        treated = self.graph.obs(niche_level(self.model))["section"][self.where]
        return str(treated.value_counts().index[0]) if len(treated) else str(treated.cat.categories[0])

    @torch.no_grad()
    def rollouts(
        self, weight: Any, columns: list[int], *, copies: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return expression [counts per 10,000] by place untreated (place, gene), and treated (copy, place, gene).

        And the standard error of its level, as a share of it (place, gene).

        Parameters
        ----------
        weight
            Sparse (place, node) whose rows average over the nodes of the base level that make up each place.
        columns
            Positions of molecules in the panel.
        copies
            Whether an interval is asked for: the first copy alone is returned if not.

        The first copy is by the effects of all training donors, each other without one of them and not shrunken; it is
        the first alone where fewer than five donors were given one of the parts.
        """
        model, plan = self.model, self.model.plan.interventions
        shift = model.interventions
        assert plan is not None and isinstance(shift, ComponentShift)
        of_donors = [0, *(1 + donor for donor in self._donors())] if copies else [0]
        untreated, error = np.zeros((2, weight.shape[0], len(columns)))
        treated = np.zeros((len(of_donors), *untreated.shape))
        pairs = {(plan.keys.index(a), plan.keys.index(b)): row for row, (a, b) in enumerate(plan.pairs)}
        asked = np.asarray(weight.sum(axis=0)).ravel() > 0
        with model.asked(RESPONSE):
            decoder = model.count_operator(plan.level, plan.modality).decoder()
        level, uncertain = (part[:, columns] for part in self._levels)
        for data, mask, mine, own, log_share in self._untreated(asked):
            local = {k: Field(f.strength[mine], f.exposure[mine]) for k, f in self.fields.items()}
            to_place, belongs = weight[:, mine], self._kinds(own, data.section[mask])
            by = belongs @ level
            untreated += to_place @ (by * _per(log_share)[:, columns])
            error += to_place @ (belongs @ uncertain)
            for place, copy in enumerate(of_donors):
                latent, beside = shift(own, local, pairs, copy)
                treated[place] += to_place @ (by * _per(log_share + latent @ decoder.t() + beside)[:, columns])
        return untreated, treated, error

    def _untreated(self, asked: np.ndarray) -> Iterator[tuple[Any, Any, np.ndarray, torch.Tensor, torch.Tensor]]:
        """Yield by window its counts, who of it is `asked` there and in the graph, their own states and log shares."""
        model, plan = self.model, self.model.plan.interventions
        assert plan is not None
        for inputs, state, core, rows in run_windows(model, self.graph, question=RESPONSE):
            mask = core[plan.level] & torch.from_numpy(asked[rows[plan.level].numpy()])
            data = inputs.measured(plan.level, plan.modality)
            own = model.count_operator(plan.level, plan.modality).encode(data)[mask]
            decoded = model.decoded(state, inputs, plan.level, plan.modality)[mask]
            yield data, mask, rows[plan.level][mask].numpy(), own, torch.log(decoded.clamp_min(1e-12))

    def _kinds(self, own: torch.Tensor, section: torch.Tensor) -> Any:
        """Return the share of each component in every node, apart for each section (node, section × component)."""
        belongs = self.model.interventions.components(own)[0].double().numpy()
        n, components = belongs.shape
        column = section.numpy()[:, None] * components + np.arange(components)
        shape = (n, int(self.graph["section"].num_nodes) * components)
        return sparse.csr_matrix((belongs.ravel(), column.ravel(), np.arange(n + 1) * components), shape)

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """How many times what is decoded was counted, and the error (section × component, molecule).

        Over whole sections, so that a place is answered alike whatever else is asked. What is decoded from states is
        nearer to the mean than what is counted, by a fifth for some molecules. One that was not measured stays as it
        is.
        """
        plan = self.model.plan.interventions
        assert plan is not None
        seen, due = np.zeros((2, int(self.graph["section"].num_nodes) * plan.components, plan.n_molecules))
        everyone = np.ones(len(self.where), bool)
        for data, mask, _, own, log_share in self._untreated(everyone):
            counts = to_scipy_csr(data.counts)[mask.numpy()]
            measured = data.panels[data.panel_of[data.section[mask]]].double().numpy()
            share = _per(log_share) * measured
            share *= np.asarray(counts.sum(axis=1)) / np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
            belongs = self._kinds(own, data.section[mask])
            seen += (belongs.T @ counts).toarray()
            due += belongs.T @ share
        return (seen + FIRM) / (due + FIRM), np.sqrt(seen) / (seen + FIRM)

    def _donors(self) -> list[int]:
        """Return the training donors that an interval is taken over: all that any part was given to, if enough."""
        plan = self.model.plan.interventions
        assert plan is not None
        return (
            sorted({donor for row in self.fields for donor in plan.seen_in[row]})
            if self._n_units() >= MIN_UNITS
            else []
        )

    def _n_units(self) -> int:
        """Return the number of training donors of the part that was given to fewest."""
        plan = self.model.plan.interventions
        assert plan is not None
        return min(len(plan.seen_in[row]) for row in self.fields)

    def _table(
        self,
        places: pd.DataFrame,
        kind: str,
        of: list[str],
        untreated: np.ndarray,
        copies: np.ndarray,
        error: np.ndarray,
        share: np.ndarray,
        unit: str,
    ) -> pd.DataFrame:
        n_donors, number = self._n_units(), len(of)
        estimate = copies[0] - untreated
        table = places.loc[places.index.repeat(number)].reset_index(drop=True)
        table[kind] = np.tile(of, len(places))
        supported = np.repeat(share > 0.5, number)
        lower, upper = (np.full(estimate.size, np.nan) for _ in range(2))
        if n_donors >= MIN_UNITS:
            effects = copies[1:] - untreated
            middle = effects.mean(axis=0)
            variance = (len(effects) - 1) * effects.var(axis=0) + (error * middle) ** 2
            wide = special.stdtrit(n_donors - 1, 0.5 + CONFIDENCE / 2) * np.sqrt(variance)
            lower, upper = (middle - wide).ravel(), (middle + wide).ravel()
        values = np.where(supported, estimate.ravel(), np.nan)
        return table.assign(
            estimate=values,
            untreated=untreated.ravel(),
            treated=np.where(supported, copies[0].ravel(), np.nan),
            lower=np.where(supported, lower, np.nan),
            upper=np.where(supported, upper, np.nan),
            interval_over="donor",
            n_units=n_donors,
            supported=supported,
            unit=unit,
        )


def _footprints(weights: pd.DataFrame | str | Path | None, panel: list[str]) -> Footprints:
    if weights is None:
        mend = "give a file of source, target and weight, such as PROGENy's or gene sets as GMT"
        raise QueryError("readout of pathways", "no weights", "what tells of a pathway", mend)
    return Footprints(weights if isinstance(weights, pd.DataFrame) else read_footprints(Path(weights)), panel)


def what_if(
    graph: TissueGraph, model: TissueModel, places: Places, given: Intervention | Combination, where: np.ndarray
) -> WhatIf:
    """Return what `given` would do to a tissue at the nodes `where` (node,) of its base level.

    Raises
    ------
    QueryError
        If the tissue was trained without interventions, or has never seen one of `given`.
    """
    plan, shift = model.plan.interventions, model.interventions
    if plan is None or not isinstance(shift, ComponentShift):
        if next(model.parts_of("intervention"), None) is not None:
            mend = "ask what its conditions do by `VirtualTissue.responses`, or `aivc query RUN response`"
            raise QueryError("intervene", "a run of a screen", "tissue", mend)
        raise no_effects(model, graph)
    near = SparseOperator.of(row_mean(graph[plan.level, names.NEAR, plan.level].adj_t))
    fields: dict[int, Field] = {}
    supported, reasons = np.ones(len(where), bool), []
    reach, known = _reach(graph, model)
    for part in given.parts:
        if part.key not in plan.keys:
            raise unknown_name(QueryError, "intervene", "trained intervention", part.key, plan.keys)
        row = plan.keys.index(part.key)
        strength = model.part("propagator", plan.level).strength(row, part.dose, part.hours)
        strong = torch.from_numpy(where.astype(np.float32)) * strength
        if row in fields:
            raise QueryError("intervene", f"{part.key} twice", "each once", "add up its doses")
        handed_on, sharpness = shift.reach[row].tolist()
        fields[row] = Field(strong, exposure(strong, near, handed_on, plan.hops, sharpness))
        reasons += _outside(plan, part, row)
        enough = (shift.treated_nodes[row] >= ENOUGH_TREATED).numpy()
        touched = (fields[row].strength > 0).numpy() | (fields[row].exposure > 0).numpy()
        supported &= ~touched | (enough[reach] & known)
    if not supported.all():
        reasons.append(f"{int((~supported).sum()):,} nodes are of a kind that was hardly ever treated in training")
    if len({part.onset_hours + part.hours for part in given.parts if part.dose and part.hours}) > 1:
        reasons.append("one after the other is outside what is modelled: all parts must last to the same hour")
    if any("outside" in reason for reason in reasons):
        supported[:] = False
    # In the order of training, so that what is given together commutes to the last bit.
    fields = {row: fields[row] for row in sorted(fields)}
    return WhatIf(graph, model, places, given.parts, where, fields, supported, tuple(reasons))


def _reach(graph: TissueGraph, model: TissueModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest component of every node (node,), and who lies where training has been."""
    plan = model.plan.interventions
    assert plan is not None and model.interventions is not None
    n = int(graph[plan.level].num_nodes)
    nearest, known = np.zeros(n, np.int64), np.zeros(n, bool)
    counted = model.count_operator(plan.level, plan.modality)
    with torch.no_grad():
        for inputs, _, core, rows in run_windows(model, graph, question=RESPONSE):
            mask = core[plan.level]
            data = inputs.measured(plan.level, plan.modality)
            share, usual = model.interventions.components(counted.encode(data)[mask])
            measured = data.mask[mask] > 0
            nearest[rows[plan.level][mask].numpy()] = share.argmax(dim=1).numpy()
            known[rows[plan.level][mask].numpy()] = (usual & measured).numpy()
    return nearest, known


def _outside(plan: Any, part: Intervention, row: int) -> list[str]:
    """Say what of a dose or time lies outside the trained range; nothing is always inside."""
    found = []
    for what, value, (low, high) in (("dose", part.dose, plan.doses[row]), ("hours", part.hours, plan.hours[row])):
        # A little slack: the graph keeps doses and hours as float32.
        if value and not low * (1 - SLACK) <= value <= high * (1 + SLACK):
            trained = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            found.append(f"{part.key}: {what} {value:g} is outside the trained {trained}")
    return found


def _per(log_share: torch.Tensor) -> np.ndarray:
    return torch.softmax(log_share.double(), dim=1).numpy() * PER
