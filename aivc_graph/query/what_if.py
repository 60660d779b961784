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
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.graph.interventions import treated_sections
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.footprints import read_footprints
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention.component_shift import ComponentShift
from aivc_graph.operators.intervention.exposure import Field, exposure
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.query.abundance import benjamini_hochberg
from aivc_graph.query.answers import MIN_UNITS, PER, no_effects
from aivc_graph.query.effect_columns import effect_columns, error_of_shares
from aivc_graph.query.in_support import as_trained, kinds_known, outside_training, reached_by
from aivc_graph.query.places import row_shares
from aivc_graph.query.states import niche_level, run_windows
from aivc_graph.tissue.intervention import Combination, Intervention

Places = Callable[[str], tuple[pd.DataFrame, Any]]
# Treated nodes of a kind that training must have seen.
ENOUGH_TREATED = 20.0
TREATED_BEFORE = "treated already when measured, so not known untreated"
HARDLY_TREATED = "of a kind that was hardly ever treated in training"
READOUTS = ("genes", "pathways")
ACTIVITY_UNIT = "log2 expression per unit of weight"
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
    treated_before
        Nodes of sections that were treated when they were measured, boolean (node,): what they are untreated is not
        known, so places are averaged over the others.
    supported
        Nodes for which training has seen the like, boolean (node,): the intervention, its dose and time, and treated
        nodes of that kind, none of them treated before.
    reasons
        Why nodes, or all of them, are out of support.
    outside
        Those of them that are of what is done, its dose and time, and so of all nodes.
    """

    graph: TissueGraph
    model: TissueModel
    places: Places
    parts: tuple[Intervention, ...]
    where: np.ndarray
    fields: dict[int, Field]
    treated_before: np.ndarray
    supported: np.ndarray
    reasons: tuple[str, ...]
    outside: tuple[str, ...]

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
            ``estimate`` (treated − untreated, as the donors show it), its ``lower`` and ``upper`` (95 %) and ``p`` over
            the training donors it was given to (`effect_columns`: NaN where they are fewer than five; variances are
            drawn towards each other among the panel's genes of a place, but not those of single nodes),
            ``p_adjusted`` among the rows (Benjamini–Hochberg), ``shrunken`` (the same effect drawn towards none as far
            as donors do not support it: nearer to the truth on average, and what is drawn and evaluated) and where it
            lies with 95 %, ``shrunken_lower`` and ``shrunken_upper``,
            ``untreated``, ``treated``, ``n_units``, ``interval_over``, ``supported``, ``why`` not, or why there is no
            interval, and ``unit``. Out of support there is no answer: effect and interval are NaN. A place is averaged
            over its nodes that had not been treated when they were measured; where all had been, ``untreated`` is NaN
            too.
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
        places, weight, unknown = self._not_treated_before(places, weight)
        # Of cells there are too many for genes that nobody asks about.
        told_of = chosen if by == plan.level else panel
        untreated, copies, error, uncertain = self.rollouts(weight, [panel.index(gene) for gene in told_of])
        reached, supported = self._in_support(weight)
        n_treated = np.asarray((weight != 0) @ self.where.astype(int)).ravel()
        why = np.where(supported, "", np.where(unknown, TREATED_BEFORE, HARDLY_TREATED))
        if self.outside:
            why[~supported] = "; ".join(self.outside)
        if (n_units := self._n_units()) < MIN_UNITS:
            why = np.where(
                supported & reached, f"no interval: given to {n_units} donors of training, of {MIN_UNITS}", why
            )
        places = places.assign(n_treated=n_treated, supported=supported, why=why)
        kind, of, unit, level = "gene", chosen, f"counts per {PER:,.0f}", None if by == plan.level else untreated
        if footprints is not None:
            kind, of, unit, level = "pathway", footprints.sources, ACTIVITY_UNIT, None
            uncertain = footprints.activity_error(copies[0], uncertain)
            untreated, copies = footprints.activity(untreated), footprints.activity(copies)
            error = np.zeros_like(untreated)  # a change of logarithms has no level
        told = effect_columns(untreated, copies, error, uncertain, self._n_units(), reached, level)
        if kind == "gene" and told_of != chosen:
            columns = [panel.index(gene) for gene in chosen]
            told, untreated = {name: values[:, columns] for name, values in told.items()}, untreated[:, columns]
        told |= {"untreated": np.where(unknown[:, None], np.nan, untreated), "treated": untreated + told["estimate"]}
        return self._table(places, kind, of, told).assign(unit=unit)

    def _in_support(self, weight: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return which places an intervention reaches (place,), and where more than half of what it reaches is known.

        Nodes that nothing reaches say nothing of whether the others are answered for.
        """
        reached = reached_by(self.fields)
        part, answered = (
            np.asarray(weight @ rows.astype(float)).ravel() for rows in (reached, reached & self.supported)
        )
        whole = np.asarray(weight @ self.supported.astype(float)).ravel()
        return part > 0, np.where(part > 0, answered / np.maximum(part, 1e-12), whole) > 0.5

    def _not_treated_before(self, places: pd.DataFrame, weight: Any) -> tuple[pd.DataFrame, Any, np.ndarray]:
        """Return places averaged over nodes not treated before, and of which all had been (place,): those as before."""
        if not self.treated_before.any():
            return places, weight, np.zeros(len(places), bool)
        kept = sparse.csr_matrix(weight @ sparse.diags((~self.treated_before).astype(float)))
        kept.eliminate_zeros()
        total = np.asarray(kept.sum(axis=1)).ravel()
        unknown = (total == 0) & (np.asarray(weight.sum(axis=1)).ravel() > 0)
        weight = sparse.csr_matrix(row_shares(kept) + sparse.diags(unknown.astype(float)) @ weight)
        if "n_nodes" in places:
            places = places.assign(n_nodes=np.diff(weight.indptr))
        return places, weight, unknown

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
            self.readout(by=level, genes=[gene], section=section)["shrunken"],
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
        """Return the section with most nodes it is done to, of those not treated before if there are any."""
        asked = self.where & ~self.treated_before
        treated = self.graph.obs(niche_level(self.model))["section"][asked if asked.any() else self.where]
        return str(treated.value_counts().index[0]) if len(treated) else str(treated.cat.categories[0])

    @torch.no_grad()
    def rollouts(
        self, weight: Any, columns: list[int], *, copies: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return expression [counts per 10,000] by place untreated (place, gene), and treated (copy, place, gene).

        And the standard error of its level, as a share of it, and that of the predicted effect (place, gene).

        Parameters
        ----------
        weight
            Sparse (place, node) whose rows average over the nodes of the base level that make up each place.
        columns
            Positions of molecules in the panel.
        copies
            Whether an interval is asked for: the first copy alone is returned if not.

        The first copy is by the shrunken effects of all training donors, the second by those effects as they are, each
        other as they are without one of the donors: none of those where fewer than five were given one of the parts.
        """
        model, plan = self.model, self.model.plan.interventions
        shift = model.interventions
        assert plan is not None and isinstance(shift, ComponentShift)
        of_donors = [0, 1, *(2 + donor for donor in self._donors())] if copies else [0]
        untreated, error, unsure = np.zeros((3, weight.shape[0], len(columns)))
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
                found = _per(log_share + latent @ decoder.t() + beside)
                treated[place] += to_place @ (by * found[:, columns])
                if copy == 0:
                    found *= error_of_shares(found / PER, shift.uncertainty(own, local, pairs).double().numpy())
                    unsure += to_place @ (by * found[:, columns])
        return untreated, treated, error, unsure

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

    def _table(self, places: pd.DataFrame, kind: str, of: list[str], told: dict[str, np.ndarray]) -> pd.DataFrame:
        """Return a row a place and gene or pathway: columns `told` (place, gene), NaN out of support."""
        table = places.loc[places.index.repeat(len(of))].reset_index(drop=True)
        table[kind], supported, why = np.tile(of, len(places)), table.pop("supported"), table.pop("why")
        columns = {}
        for name, values in told.items():
            columns[name] = values.ravel() if name == "untreated" else np.where(supported, values.ravel(), np.nan)
            if name == "p":
                columns["p_adjusted"] = benjamini_hochberg(columns[name])
        table = table.assign(**columns)
        return table.assign(interval_over="donor", n_units=self._n_units(), supported=supported, why=why)


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
    before = treated_sections(graph)[graph[plan.level].section_index.numpy()]
    supported, outside, reasons = np.ones(len(where), bool), [], []
    reach, known = kinds_known(graph, model)
    parts = tuple(as_trained(plan, part) for part in given.parts)
    for part in parts:
        row = plan.keys.index(part.key)
        strength = model.part("propagator", plan.level).strength(row, part.dose, part.hours)
        strong = torch.from_numpy(where.astype(np.float32)) * strength
        if row in fields:
            raise QueryError("intervene", f"{part.key} twice", "each once", "add up its doses")
        handed_on, sharpness = shift.reach[row].tolist()
        fields[row] = Field(strong, exposure(strong, near, handed_on, plan.hops, sharpness))
        outside += outside_training(plan, part, row)
        enough = (shift.treated_nodes[row] >= ENOUGH_TREATED).numpy()
        supported &= ~reached_by({row: fields[row]}) | (enough[reach] & known)
    if (rare := int((~supported & ~before).sum())) > 0:
        reasons.append(f"{rare:,} nodes are {HARDLY_TREATED}")
    if (again := reached_by(fields) & before).any():
        found = graph.obs(plan.level)["section"][again].astype(str).unique()
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        reasons.append(f"{TREATED_BEFORE}, and left out of averages: {shown}")
        supported &= ~again
    if len({part.onset_hours + part.hours for part in parts if part.dose and part.hours}) > 1:
        outside.append("one after the other is outside what is modelled: all parts must last to the same hour")
    if outside:
        supported[:] = False
    # In the order of training, so that what is given together commutes to the last bit.
    fields = {row: fields[row] for row in sorted(fields)}
    return WhatIf(graph, model, places, parts, where, fields, before, supported, (*reasons, *outside), tuple(outside))


def _per(log_share: torch.Tensor) -> np.ndarray:
    return torch.softmax(log_share.double(), dim=1).numpy() * PER
