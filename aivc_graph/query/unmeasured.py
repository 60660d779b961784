"""Expected expression of genes that no section measured, told from what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from aivc_graph import names
from aivc_graph.graph.known import known_of
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.operators.measurement.unmeasured import Unmeasured, tell_unmeasured
from aivc_graph.query.answers import PER
from aivc_graph.query.states import run_windows

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

# Half the width of a 95 % interval in standard deviations.
HALF = 1.96


def known_genes(tissue: VirtualTissue, level: str, genes: Sequence[str] | None, modality: str) -> list[str]:
    """Return which of `genes` were not measured at a level and are known beforehand, each once."""
    known = known_of(tissue.graph) if modality == names.RNA and genes is not None else None
    panel = tissue.model.plan.counts.get(level, {}).get(modality, ())
    further = [gene for gene in dict.fromkeys(genes or ()) if gene not in set(panel)]
    if known is None or not panel or not further:
        return []
    return [gene for gene, there in zip(further, known.has(further), strict=True) if there]


def unmeasured_genes(tissue: VirtualTissue, level: str, genes: Sequence[str]) -> Unmeasured:
    """Return what is told of genes that a level's panel lacks."""
    part, known = tissue.model.count_operator(level, names.RNA), known_of(tissue.graph)
    assert known is not None
    weight = part.decoder().detach().double().numpy()
    return tell_unmeasured(known, part.plan.names, weight, part.log_profile.double().numpy(), genes)


def decoded_states(tissue: VirtualTissue, level: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the state of every node (node, latent), and the log sum over the panel that shares are brought to (node,).

    Not a number for a node of which nothing is known.
    """
    n = int(tissue.graph[level].num_nodes)
    states, totals = np.full((n, tissue.model.latent), np.nan), np.full(n, np.nan)
    part = tissue.model.count_operator(level, names.RNA)
    for inputs, state, core, rows in run_windows(tissue.model, tissue.graph, question=EXPRESSION):
        with torch.no_grad():
            z = state.z[level].double().numpy()
            bias = part.log_profile + inputs.measured(level, names.RNA).section_offset
            logits = z @ part.decoder().double().numpy().T + bias.double().numpy()[inputs.section[level].numpy()]
        inside = core[level].numpy() & (state.known[level].numpy() > 0)
        at = rows[level].numpy()[inside]
        states[at], totals[at] = z[inside], np.logaddexp.reduce(logits, axis=1)[inside]
    return states, totals


def expected_unmeasured(told: Unmeasured, states: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return expectation, lower and upper 95 % bound (3, node, gene) in counts per 10,000 of the measured panel."""
    log, spread = told.log_shares(states)
    away = np.array([0.0, -HALF, HALF])[:, None, None] * spread
    return np.asarray(np.exp(log + away - totals[:, None]) * PER, np.float32)


def with_unmeasured(
    table: Any, tissue: VirtualTissue, level: str, genes: list[str], niche: pd.Series | None
) -> ad.AnnData | pd.DataFrame:
    """Return a table of measured genes, see `expression_table`, with `genes` beside them, in the form it has."""
    told = unmeasured_genes(tissue, level, genes)
    expected, lower, upper = expected_unmeasured(told, *decoded_states(tissue, level))
    if niche is not None:
        further = _of_niches(genes, (expected, lower, upper), niche)
        return pd.DataFrame({name: np.concatenate([table[name], further[name]]) for name in table})
    none = np.full(table.shape, np.nan, np.float32)
    answer = ad.AnnData(
        X=np.concatenate([table.X, expected], axis=1),
        obs=table.obs,
        var=pd.concat([table.var, pd.DataFrame({"measured": False}, index=genes)]),
        layers={"measured": np.concatenate([table.layers["measured"], np.full_like(expected, np.nan)], axis=1)}
        | {
            name: np.concatenate([table.layers.get(name, none), bound], axis=1)
            for name, bound in (("lower", lower), ("upper", upper))
        },
    )
    answer.obsm["spatial"] = table.obsm["spatial"]
    answer.uns.update(table.uns)
    answer.uns["unmeasured"] = {"opening": told.opening, **{f"variance of {k}": v for k, v in told.variance.items()}}
    return answer


def _of_niches(genes: list[str], values: tuple[np.ndarray, ...], niche: pd.Series) -> pd.DataFrame:
    """Return a row a niche and gene: means over nodes; the interval is of the gene, not of sections."""
    rows = []
    for name in niche.cat.categories:
        inside = (niche == name).to_numpy()
        known = inside & np.isfinite(values[0]).all(axis=1)
        if not inside.any():
            continue
        middle, lower, upper = (one[known].mean(axis=0) if known.any() else one[0] * np.nan for one in values)
        facts = {"niche": name, "gene": genes, "expected": middle, "lower": lower, "upper": upper}
        of = {"measured": np.nan, "n_nodes": int(inside.sum()), "n_units": 0, "interval_over": "gene"}
        rows.append(pd.DataFrame({**facts, **of, "unit": f"counts per {PER:,.0f}"}))
    return pd.concat(rows, ignore_index=True)
