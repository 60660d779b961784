"""The names of a prior as the tissue has them: a table of names, versions of ids, and letter case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.tissue.prior import Prior

_VERSION = re.compile(r"^(ENS[A-Z]*[GTP]\d{6,})\.\d+$")


def translated(prior: Prior, tissue: Iterable[str]) -> Prior:
    """Return a prior with the tissue's names, by the two columns of its table of names that hold most of either.

    What the table does not name keeps its own name.

    Raises
    ------
    ReadError
        If no column holds names of the prior, or no other one names of the tissue.
    """
    if prior.names_by is None:
        return prior
    frame, own, wanted = prior.names_by, names_in(prior), set(tissue)
    from_, shared = _best(frame, own, None)
    to, reached = _best(frame, wanted, from_)
    if not shared or not reached:
        found = f"no column of {'the file' if not shared else 'the tissue'}'s names"
        raise ReadError(
            f"{prior.facts.get('file')} · names_by",
            found,
            "one column of each",
            "give a table of both kinds of names as `names_by:`",
        )
    known = frame[frame.iloc[:, to].isin(wanted)]
    name = dict(zip(known.iloc[:, from_], known.iloc[:, to], strict=True))
    return renamed(prior, {one: name.get(one, one) for one in own})


def matched(prior: Prior, tissue: Iterable[str]) -> tuple[Prior, int]:
    """Return a prior with the tissue's names, and how many of its names are the tissue's by letter case alone.

    Ids lose their version; where a name is none of the tissue's, the one that differs by letter case is taken if there
    is one alone.
    """
    wanted = set(tissue)
    by_case: dict[str, list[str]] = {}
    for one in wanted:
        by_case.setdefault(one.upper(), []).append(one)
    name, n_by_case = {}, 0
    for one in names_in(prior):
        bare = _VERSION.sub(r"\1", one)
        alike = by_case.get(bare.upper(), [])
        name[one] = bare if bare in wanted or len(alike) != 1 else alike[0]
        n_by_case += name[one] != bare
    return renamed(prior, name), n_by_case


def names_in(prior: Prior) -> set[str]:
    """Return every molecule that a prior names."""
    if prior.describes:
        return set(prior.table.index.astype(str))
    return set(prior.table["gene"]) if prior.placed else {*prior.table["source"], *prior.table["target"]}


def renamed(prior: Prior, name: dict[str, str]) -> Prior:
    """Return a prior under other names; of two molecules that come to one name the first, or the heavier, stays."""
    table = prior.table
    if prior.describes:
        table = table.set_axis(table.index.astype(str).map(name))
        return replace(prior, table=table[~table.index.duplicated()])
    if prior.placed:
        return replace(prior, table=table.assign(gene=table["gene"].map(name)).drop_duplicates("gene"))
    table = table.assign(source=table["source"].map(name), target=table["target"].map(name))
    table = table[table["source"] != table["target"]].sort_values("weight", ascending=False, kind="stable")
    table = table.drop_duplicates(["source", "target"]).sort_values(["source", "target"])
    return replace(prior, table=table)


def _best(frame: pd.DataFrame, wanted: set[str], but: int | None) -> tuple[int, int]:
    """Return the column, other than `but`, that holds most of `wanted`, and how many."""
    shared = [len(wanted & set(frame.iloc[:, i])) if i != but else -1 for i in range(frame.shape[1])]
    best = max(range(len(shared)), key=shared.__getitem__)
    return best, shared[best]
