"""Responses of a screen's conditions, as the run's operator tells them: a row a condition and context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.known import Known, known_of
from aivc_graph.graph.screens import EFFECT, Setting, genes_of, screened, settings_of, values_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.intervention.condition_effects import ConditionEffects, Told
from aivc_graph.operators.intervention.condition_profiles import DEPTH, profiles_of
from aivc_graph.tissue.conditions import canonical, parts_of

Floats = NDArray[np.floating]
Amount = float | tuple[float, ...] | None
Row = tuple[str, tuple[str, ...], Amount, Amount]
MIN_UNITS, CONFIDENCE = 5, 0.95
INTERVAL = "95 %, by the errors of training conditions left out as this one is asked; none with fewer than five"


def screen_operator(model: TissueModel) -> ConditionEffects | None:
    """Return what tells the responses of a screen; None where the model was trained on none."""
    return next((part for part in model.modules() if isinstance(part, ConditionEffects)), None)


def screen_responses(
    graph: TissueGraph,
    model: TissueModel,
    conditions: Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
    dose: Amount = None,
    hours: Amount = None,
) -> ad.AnnData:
    """Return what conditions would do in contexts; see `VirtualTissue.responses`.

    Raises
    ------
    QueryError
        A run of no screen, a context without controls, something never done that is no measured gene either.
    """
    operator = screen_operator(model)
    if operator is None:
        raise QueryError("responses", "a run of no screen", "cells with conditions", "ask tissue by `intervene`")
    states = _untreated(graph, operator)
    for one in contexts or ():
        if one not in states:
            raise unknown_name(QueryError, "response", "context", one, states)
    if conditions is None:
        asked = [one for one in _unseen(graph, operator) if contexts is None or one.context in contexts]
        if not asked:
            mend = "name what is to be done, as in --intervention activation:KLF1"
            raise QueryError("response", "no condition of the graph that training lacks", "one", mend)
        rows: list[Row] = [(one.context, one.parts, one.doses or None, one.hours or None) for one in asked]
    else:
        done = [parts_of(text) for text in conditions]
        rows = [(where, parts, dose, hours) for parts in done for where in contexts or _trained(operator)]
    known = known_of(graph)
    for parts in {parts for _, parts, *_ in rows}:
        _check_known(parts, operator, known)
    told = [operator.predict(parts, where, d, h, states[where], known) for where, parts, d, h in rows]
    return _answer(operator, told, states)


def response_table(answer: ad.AnnData, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """Return an answer of `screen_responses` as a table: a row a condition, context and gene."""
    chosen = list(answer.var_names) if genes is None else list(genes)
    for gene in chosen:
        if gene not in answer.var_names:
            raise unknown_name(QueryError, "response", "gene", gene, answer.var_names)
    own = answer[:, chosen]
    table = own.obs.loc[own.obs.index.repeat(len(chosen))].reset_index(drop=True)
    table.insert(4, "gene", np.tile(chosen, own.n_obs))
    values = {"estimate": "effect", "lower": "lower", "upper": "upper", "untreated": "untreated"}
    return table.assign(**{name: np.asarray(own.layers[layer]).ravel() for name, layer in values.items()})


def _answer(operator: ConditionEffects, told: Sequence[Told], states: dict[str, Floats | None]) -> ad.AnnData:
    effect = np.stack([one.effect for one in told])
    half = np.stack([_half(one) for one in told])
    base = np.stack([_zero(states[one.setting.context], effect.shape[1]) for one in told])
    obs = pd.DataFrame(
        {
            names.CONDITION: [canonical(one.setting.parts) for one in told],
            names.CONTEXT: [one.setting.context for one in told],
            names.DOSE: ["+".join(f"{v:g}" for v in one.setting.doses) for one in told],
            names.HOURS: ["+".join(f"{v:g}" for v in one.setting.hours) for one in told],
            "supported": [not one.doubts for one in told],
            "why": ["; ".join([*one.doubts, *_without_interval(one)]) for one in told],
            "n_left_out": [one.n_left_out for one in told],
        },
        index=[f"r{i}" for i in range(len(told))],
    )
    answer = ad.AnnData(X=base + effect, obs=obs, var=pd.DataFrame(index=list(operator.plan.genes)))
    for name, values in (("effect", effect), ("lower", effect - half), ("upper", effect + half), ("untreated", base)):
        answer.layers[name] = values
    kind = operator.plan.modality
    units = f"log1p of counts at a depth of {DEPTH:,.0f}" if kind in names.MOLECULE_OF else "as measured"
    answer.uns.update({"units": units, "interval": INTERVAL, "values": kind})
    return answer


def _half(one: Told) -> Floats:
    """Return half the width of the interval of each gene (gene,); nothing where nothing was done."""
    if not one.setting.at_work().parts:
        return np.zeros_like(one.effect)
    return one.error * (np.nan if _without_interval(one) else stdtrit(one.n_left_out, 0.5 + CONFIDENCE / 2))


def _without_interval(one: Told) -> list[str]:
    """Say why an effect has no interval; nothing where it has one."""
    if not one.setting.at_work().parts or one.n_left_out >= MIN_UNITS:
        return []
    return [f"no interval: {one.n_left_out} conditions of training could be left out as it is asked, of {MIN_UNITS}"]


def _zero(state: Floats | None, n: int) -> Floats:
    return np.zeros(n) if state is None else state


def _trained(operator: ConditionEffects) -> list[str]:
    return sorted({one.context for one in operator.plan.rows if one.parts})


def _unseen(graph: TissueGraph, operator: ConditionEffects) -> list[Setting]:
    """Return the treated settings of a graph that training has not, in contexts whose untreated state is known."""
    place = screened(graph)
    states, trained = _untreated(graph, operator), set(operator.plan.rows)
    found = [] if place is None else settings_of(graph, *place)[0]
    return [one for one in found if one.parts and one not in trained and one.context in states]


def _untreated(graph: TissueGraph, operator: ConditionEffects) -> dict[str, Floats | None]:
    """Return the untreated profile (gene,) of each context that can be asked about; None for effects, which need none.

    Of a context that did not train it is that of the control nodes of the graph, whatever their split.
    """
    rows, place = operator.plan.rows, screened(graph)
    if operator.plan.modality == EFFECT:
        own = [] if place is None else settings_of(graph, *place)[0]
        return {one.context: None for one in sorted({*rows, *own})}
    found: dict[str, Any] = {one.context: operator.profile(one.context) for one in rows}
    if place is not None and place[1] == operator.plan.modality:
        settings, of_node = settings_of(graph, *place)
        order = pd.Index(genes_of(graph, *place)).get_indexer(pd.Index(operator.plan.genes))
        for where in sorted({one.context for one in settings} - set(found)) if (order >= 0).all() else ():
            codes = [i for i, one in enumerate(settings) if one.context == where and not one.parts]
            nodes = np.flatnonzero(np.isin(of_node, codes))
            if len(nodes):
                total = np.asarray(sparse.csr_matrix(values_of(graph, *place, nodes)).sum(axis=0))[:, order]
                counts = place[1] in names.MOLECULE_OF
                found[where] = profiles_of(total, np.array([len(nodes)], float), counts)[0]
    return {where: state for where, state in found.items() if state is not None}


def _check_known(parts: Sequence[str], operator: ConditionEffects, beforehand: Known | None) -> None:
    """Raise a `QueryError` for a part that was never done and of which nothing is known: no measured gene, no prior."""
    if not parts:
        raise QueryError("response", "nothing done", "what is done", "name at least one intervention")
    known = {part for one in operator.plan.rows for part in one.parts}
    told = np.zeros(len(parts), bool) if beforehand is None else beforehand.has(parts)
    for part, has_prior in zip(parts, told, strict=True):
        if part not in known and part not in operator.plan.genes and not has_prior:
            what = "intervention that trained, or gene that was measured,"
            raise unknown_name(QueryError, "response", what, part, sorted(known))
