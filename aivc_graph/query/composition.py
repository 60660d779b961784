"""What patches are made of: predicted shares of cell types beside those of the cells measured beneath."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.panels import type_shares, types_of
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.composition.reference import ReferenceComposition, Told
from aivc_graph.query.states import run_windows
from aivc_graph.tissue.doubt import doubt

Floats = NDArray[np.float64]
PATCHES_AT_ONCE = 100
TOLD = ("shares", "lower", "upper", "unexplained", "amount")
# Patches whose cells were counted, that an interval of 90 % can rest on.
FEWEST_COUNTED = 20
# Median over a section, from which on it is told: in simulated tissue 0 to 0.02, of another platform 0.2 and more; 0.07
# in a real section told by another patient's cells.
UNEXPLAINED = 0.15
IDENTITY = ("section", names.BARCODE, "x_um", "y_um", "niche")


def predicted_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the predicted share of each type (parent, type); rows of zeros where nothing is known."""
    shares = np.zeros((int(graph[parent].num_nodes), len(model.plan.compositions[child, parent])))
    for inputs, state, core, rows in run_windows(model, graph):
        with torch.no_grad():
            found = model.composition(state, inputs, child, parent)[core[parent]]
        shares[rows[parent][core[parent]].numpy()] = found.numpy()
    return shares


def told_of_reference(model: TissueModel, child: str, parent: str) -> bool:
    """Say whether what parents are made of is told by dissociated cells."""
    return isinstance(model.part("composition", child, parent), ReferenceComposition)


def told_by_reference(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Told:
    """Return what a dissociated reference tells of each parent; zeros where nothing was counted."""
    part, n = model.part("composition", child, parent), int(graph[parent].num_nodes)
    shares, lower, upper = torch.zeros(3, n, len(part.plan.types))
    found = Told(shares, lower, upper, torch.zeros(n), torch.zeros(n))
    for inputs, state, core, rows in run_windows(model, graph):
        here, told = rows[parent][core[parent]], part.tell(state, inputs)
        for whole, piece in ((getattr(found, name), getattr(told, name)) for name in TOLD):
            whole[here] = piece[core[parent]]
    return found


def given_by_type(
    model: TissueModel, graph: TissueGraph, child: str, parent: str, kind: int, genes: list[str]
) -> NDArray[np.float32]:
    """Return how many molecules a type gives to each parent, and the ends of its interval (3, parent, gene).

    Not a number where nothing was counted.
    """
    part, n = model.part("composition", child, parent), int(graph[parent].num_nodes)
    columns = torch.tensor([told_genes(model, child, parent).index(gene) for gene in genes])
    found = np.full((3, n, len(genes)), np.nan, np.float32)
    for inputs, state, core, rows in run_windows(model, graph):
        for some, counts, there in part.counted(state, inputs):
            inside = core[parent][some]
            for few in torch.nonzero(inside).ravel().split(PATCHES_AT_ONCE):
                here = rows[parent][some[few]].numpy()
                found[:, here] = part.given(counts[few], there, kind, columns).numpy()
    return found


def told_genes(model: TissueModel, child: str, parent: str) -> list[str]:
    """Return the genes by which a reference tells what parents are made of."""
    part, panel = model.part("composition", child, parent), model.plan.counts[parent][names.RNA]
    return [panel[part.plan.of_parent[one]] for one in part.genes.tolist()]


def measured_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the overlap-weighted share of each type among labelled cells beneath (parent, type), zero without any."""
    types = model.plan.compositions[child, parent]
    if (child, names.WITHIN, parent) not in graph.edge_types:
        return np.zeros((int(graph[parent].num_nodes), len(types)))
    overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)
    return type_shares(overlap, types_of(graph, child, types), len(types))


def predicted_composition(
    model: TissueModel,
    graph: TissueGraph,
    child: str,
    parent: str,
    obs: pd.DataFrame,
    by: str | None,
    cells: str | None = None,
) -> pd.DataFrame:
    """Return predicted and measured shares, a row a node of `parent`, or the means a row of `by`.

    Told by a reference, each share has an interval where a row is a node, and beside them are what no type accounts
    for and, where cells were counted at some nodes (in the column `cells`, or cells that lie beneath), their number.
    """
    types = list(model.plan.compositions[child, parent])
    columns: dict[str, Floats] = {}
    measured = measured_shares(model, graph, child, parent)
    rest = pd.DataFrame(index=obs.index)
    if told_of_reference(model, child, parent):
        told = told_by_reference(model, graph, child, parent)
        columns[""] = told.shares.numpy()
        rest["unexplained"] = np.where(told.shares.sum(dim=1) > 0, told.unexplained, np.nan)
        _doubt_unexplained(rest["unexplained"], obs["section"])
        number = cells_of_patches(told.amount.double().numpy(), counted_cells(graph, child, parent, obs, cells))
        rest = rest.join((number if by is None else number.filter(items=["cells"])).set_axis(obs.index))
        if by is None:
            columns |= {"lower_": told.lower.numpy(), "upper_": told.upper.numpy()}
    else:
        columns[""] = predicted_shares(model, graph, child, parent)
    if measured.any() or rest.columns.empty:
        columns["measured_"] = measured
    known = {"measured_": measured.sum(axis=1) > 0}
    tables = [
        pd.DataFrame(
            np.where(known.get(before, columns[""].sum(axis=1) > 0)[:, None], part, np.nan),
            obs.index,
            [f"{before}{name}" for name in types],
        )
        for before, part in columns.items()
    ]
    return _told(pd.concat([*tables, rest], axis=1), obs, by)


def _doubt_unexplained(unexplained: pd.Series, section: pd.Series) -> None:
    """Doubt sections whose patches mostly hold many molecules that no mixture of the types accounts for."""
    usual = unexplained.groupby(section, observed=True).median()
    for name, share in usual[usual > UNEXPLAINED].items():
        found = f"{share:.0%} of the molecules of a patch of {name} that no mixture of the types gives"
        mend = "is its platform that of the spots trained on, and has the reference all types of this tissue?"
        doubt("composition", found, f"≤ {UNEXPLAINED:.0%}", f"intervals leave this out: {mend}")


def counted_cells(graph: TissueGraph, child: str, parent: str, obs: pd.DataFrame, column: str | None) -> Floats:
    """Return how many cells were counted at each patch (patch,), not a number where nobody did.

    Of the `column` given; else of the cells that lie beneath, labelled or not, as far as they lie inside.

    Raises
    ------
    QueryError
        A column that is not there, or holds anything else than numbers from 0 and gaps.
    """
    if column is not None and column not in obs:
        raise unknown_name(QueryError, "composition", f"column of {parent} nodes", column, obs.columns)
    if column is not None:
        number = pd.to_numeric(obs[column].astype(object), errors="coerce").to_numpy(np.float64)
        wrong = obs.loc[obs[column].notna().to_numpy() & ~(np.isfinite(number) & (number >= 0)), column]
        if len(wrong):
            found = f"{wrong.iloc[0]!r} among {len(wrong):,} of {len(obs):,} values that are no number of cells"
            raise QueryError(f"composition · {column}", found, "numbers from 0, and gaps", "name another column")
        return number
    if (child, names.WITHIN, parent) not in graph.edge_types:
        return np.full(len(obs), np.nan)
    number = np.asarray(to_scipy_csr(graph[child, names.WITHIN, parent].adj_t).sum(axis=1), np.float64).ravel()
    return np.where(number > 0, number, np.nan)


def cells_of_patches(amount: Floats, counted: Floats) -> pd.DataFrame:
    r"""Return the number of cells in each patch, and its 90 % interval, by patches where it was counted.

    :math:`n_s = \kappa A_s`, with A the molecules of a patch over those of a cell of its composition, and κ the
    ratio of all that were counted to their A. The interval is κ A times quantiles of the ratios of single patches,
    so that the next patch lies inside as often as it says whatever their law is (Vovk et al. 2005,
    doi:10.1007/b106715). Without counted cells nothing is told: which share of molecules a platform catches no
    count of molecules says.
    """
    known = np.isfinite(counted) & (counted >= 0) & (amount > 0)
    if not known.any():
        return pd.DataFrame(index=range(len(amount)))
    if known.sum() < FEWEST_COUNTED or counted[known].sum() == 0:
        found = f"{int(known.sum())} patches whose cells were counted, so that the number of cells a patch is not told"
        mend = "give cells or nuclei beneath some patches, or their number as a column, and name it with `cells:`"
        doubt("composition", found, f"at least {FEWEST_COUNTED}, to tell how many molecules a cell gives", mend)
        return pd.DataFrame(index=range(len(amount)))
    ratio = np.sort(counted[known] / amount[known])
    place = np.array([0.05, 0.95]) * (len(ratio) + 1) - 1
    low, high = np.interp(place, np.arange(len(ratio)), ratio)
    scales = {"cells": counted[known].sum() / amount[known].sum(), "lower_cells": low, "upper_cells": high}
    return pd.DataFrame({name: np.where(amount > 0, scale * amount, np.nan) for name, scale in scales.items()})


def composition_beneath(
    beneath: pd.DataFrame, weight: sparse.csr_matrix, obs: pd.DataFrame, by: str | None, level: str
) -> pd.DataFrame:
    """Return the shares of each label among the labelled nodes beneath, a row a place, or the means a row of `by`.

    Parameters
    ----------
    beneath
        Annotation of the nodes, with a label of each, missing where it has none.
    weight
        ``(place, node)``: how much of each node lies in each place; a place without a labelled node has no shares.
    obs
        Annotation of the places.
    level
        What the places are.

    Raises
    ------
    QueryError
        If the nodes bear no labels.
    """
    if names.LABEL not in beneath:
        mend = f"ask for the niches at {level}: each row has the shares of the niches there"
        raise QueryError(f"composition at {level}", "no label, nor beneath it", "labelled nodes", mend)
    kinds = pd.Categorical(beneath[names.LABEL])
    known = np.flatnonzero(kinds.codes >= 0)
    shape = (len(beneath), len(kinds.categories))
    sums = (weight @ sparse.csr_matrix((np.ones(len(known)), (known, kinds.codes[known])), shape)).toarray()
    total = sums.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, sums / np.maximum(total, 1e-12), np.nan)
    return _told(pd.DataFrame(shares, obs.index, [str(kind) for kind in kinds.categories]), obs, by)


def _told(table: pd.DataFrame, obs: pd.DataFrame, by: str | None) -> pd.DataFrame:
    every = [*IDENTITY, "supported", "n_nodes", *table.columns]
    if twice := sorted({name for name in table.columns if every.count(name) > 1}):
        mend = "rename these labels, and train again"
        raise QueryError("composition", f"types named {', '.join(twice)}", "names of no other column", mend)
    if table.isna().all(axis=None):
        mend = "label cells of this tissue; were spots read as cells, say `level: patch`"
        doubt("composition", "shares that nothing tells, at any place", "labels beneath, or counts", mend)
    if by is None:
        first, last = ([c for c in columns if c in obs] for columns in (IDENTITY, ("supported",)))
        return pd.concat([obs[first], table, obs[last]], axis=1).reset_index(drop=True)
    grouped = table.groupby(obs[by], observed=True)
    means = grouped.mean()
    means.insert(0, "n_nodes", grouped.size())
    return means.reset_index()
