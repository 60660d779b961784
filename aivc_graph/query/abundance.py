"""How much of a tissue each niche and cell type makes up, by a trait of the donors; the donor is the unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph

Floats = NDArray[np.float64]
DONOR, NICHE, TYPE = "donor", "niche", "cell type"
LEAST = 3  # donors a group, below which there is no interval and no p
MOST_GROUPS = 5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Contrast:
    """A mean difference over donors, or a slope, and what it rests on; NaN where there are too few donors."""

    difference: float
    error: float
    freedom: float

    def row(self) -> dict[str, float]:
        """Return the difference with its interval and its p-value, all of one t statistic."""
        if not np.isfinite(self.error) or self.freedom < 1:
            return {"difference": self.difference, "lower": np.nan, "upper": np.nan, "p": np.nan}
        reach = special.stdtrit(self.freedom, 0.5 + CONFIDENCE / 2) * self.error
        t = abs(self.difference) / self.error if self.error > 0 else np.inf if self.difference else 0.0
        p = 2 * special.stdtr(self.freedom, -t) if self.error > 0 or not self.difference else np.nan
        lower, upper = self.difference - reach, self.difference + reach
        return {"difference": self.difference, "lower": lower, "upper": upper, "p": float(p)}


def shares_by_donor(graph: TissueGraph, trait: str, members: dict[str, tuple[str, pd.Series]]) -> pd.DataFrame:
    """Return the share of each kind in each donor: a row a donor, value of the trait and kind.

    Parameters
    ----------
    members
        What is counted → (level, the kind of each node of it, missing where it has none).

    Raises
    ------
    QueryError
        Unknown trait (lists those there are).
    """
    tables = []
    for what, (level, kind) in members.items():
        of = _traits(graph, level, trait)
        nodes = of.assign(name=kind.astype(str).to_numpy())[kind.notna().to_numpy() & of["value"].notna().to_numpy()]
        counts = nodes.groupby([DONOR, "value", "name"], observed=True).size().unstack(fill_value=0)
        order = [str(one) for one in kind.cat.categories if str(one) in counts]
        counts = counts[order]
        share = counts.div(counts.sum(axis=1), axis=0).reset_index()
        tables.append(share.melt([DONOR, "value"], var_name="name", value_name="share").assign(what=what))
    return pd.concat(tables, ignore_index=True)


def _traits(graph: TissueGraph, level: str, trait: str) -> pd.DataFrame:
    """Return donor and value of the trait of every node: of its section, or else of its own annotation."""
    sections, nodes = graph.obs(names.SECTION), graph.obs(level)
    index = graph[level].section_index.numpy()
    own = pd.Series(sections.index.astype(str), sections.index)
    donor = sections[DONOR].astype(object).where(sections[DONOR].notna(), own) if DONOR in sections else own
    if trait in sections:
        value = sections[trait].to_numpy()[index]
    elif trait in nodes:
        value = nodes[trait].to_numpy()
    else:
        known = _candidates(sections)
        where = "say it under `traits:` or `traits_by:` of the sections in the YAML, and build again"
        raise QueryError(f"abundance --by {trait}", *_not_there(trait, known), where)
    return pd.DataFrame({DONOR: donor.astype(str).to_numpy()[index], "value": value})


def _candidates(sections: pd.DataFrame) -> list[str]:
    return [str(column) for column in sections if column not in ("section", DONOR) and sections[column].nunique() > 1]


def _not_there(trait: str, known: list[str]) -> tuple[str, str]:
    found = str(unknown_name(QueryError, "", "trait", trait, known or ["none"])).removeprefix(": ")
    return found, "a trait of the donors"


def contrasts(shares: pd.DataFrame, trait: str) -> pd.DataFrame:
    """Return a row a kind and contrast: mean shares, their difference with its interval, p and adjusted p.

    Two groups are compared with each other, several each with all others; a number of more than five values is a slope.
    Donors are the unit: Welch's t between donors or, where donors are on both sides (tumour and normal tissue of one
    patient), Student's t of the differences within them. With fewer than three donors a group, or on both sides, there
    is no interval and no p. P-values are adjusted within niches, and within cell types, by Benjamini and Hochberg.

    References
    ----------
    Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    rows = []
    for (what, name), table in shares.groupby(["what", "name"], sort=False):
        rows += [{"what": what, "name": name, "trait": trait, **row} for row in _rows(table)]
    found = pd.DataFrame(rows)
    found["p_adjusted"] = found.groupby("what")["p"].transform(lambda p: benjamini_hochberg(p.to_numpy()))
    return found[[*(c for c in found if c != "note"), "note"]]


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    values = table["value"].unique()
    number = pd.to_numeric(pd.Series(values), errors="coerce")
    if number.notna().all() and len(values) > MOST_GROUPS:
        yield _slope(table)
        return
    groups = sorted(map(str, values))
    table = table.assign(value=table["value"].astype(str)).set_index([DONOR, "value"])["share"].unstack()
    if len(groups) == 1:
        raise QueryError("abundance", f"one value, {groups[0]!r}", "two groups of donors", "ask for another trait")
    for group, against in [groups[::-1]] if len(groups) == 2 else [(one, "all others") for one in groups]:
        a, b = table[group], table.drop(columns=group).mean(axis=1)
        yield {"group": group, "against": against, **_compared(a, b)}


def _compared(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    """Return how the shares of donors in a group, and in what it is compared with, differ (donor,)."""
    both = a.notna() & b.notna()
    shown = {"share": a.mean(), "share_against": b.mean(), "n_donors": int(a.notna().sum())}
    shown["n_against"] = int(b.notna().sum())
    if both.any():
        within = (a - b)[both].to_numpy()
        n, left = len(within), int((~both).sum())
        error = within.std(ddof=1) / np.sqrt(n) if n >= LEAST else np.nan
        # Shares of the donors that are compared, so that they differ by the difference.
        shown = {"share": a[both].mean(), "share_against": b[both].mean(), "n_donors": n, "n_against": n}
        note = f"within {n} donor{'' if n == 1 else 's'} on both sides"
        note += f"; {left} on one side left out" if left else ""
        row = Contrast(float(within.mean()), float(error), n - 1).row()
        return {**shown, **row, "note": note + ("" if n >= LEAST else f": fewer than {LEAST}, so no interval and no p")}
    x, y = a.dropna().to_numpy(), b.dropna().to_numpy()
    difference = float(x.mean() - y.mean())
    if min(len(x), len(y)) < LEAST:
        few = f"fewer than {LEAST} donors in a group, so no interval and no p"
        return {**shown, **Contrast(difference, np.nan, 0).row(), "note": few}
    of = [values.var(ddof=1) / len(values) for values in (x, y)]
    spread = sum(of)
    freedom = spread**2 / sum(v**2 / (len(w) - 1) for v, w in zip(of, (x, y), strict=True)) if spread > 0 else 1.0
    return {**shown, **Contrast(difference, float(np.sqrt(spread)), freedom).row(), "note": ""}


def _slope(table: pd.DataFrame) -> dict[str, Any]:
    """Return the slope of the share over a trait that is a number, by least squares over donors."""
    donors = table.assign(value=pd.to_numeric(table["value"])).groupby(DONOR)[["value", "share"]].mean()
    x, y = donors["value"].to_numpy(np.float64), donors["share"].to_numpy(np.float64)
    centred, n = x - x.mean(), len(x)
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = np.sqrt(rest @ rest / max(n - 2, 1) / (centred @ centred))
    shown = {"group": "per unit", "against": "", "share": y.mean(), "share_against": np.nan}
    row = Contrast(slope, float(error), n - 2).row()
    return {**shown, "n_donors": n, "n_against": 0, **row, "note": f"slope over {n} donors"}


def benjamini_hochberg(p: Floats) -> Floats:
    """Return p-values adjusted for the false discovery rate, in their order; NaN stays.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03])).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    from scipy.stats import false_discovery_control

    out, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        out[known] = false_discovery_control(p[known])
    return out
