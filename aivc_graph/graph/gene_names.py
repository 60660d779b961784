"""One naming of genes over sections: symbols for Ensembl ids, one spelling, and the genes of another species."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import GraphError
from aivc_graph.io.genes import GENE_ID

log = logging.getLogger(__name__)
ENSEMBL = re.compile(r"^(ENS[A-Z]*G\d{6,})(?:\.\d+)?$")
# Sections that share this much of their names as they stand are of one species: other capitals are another spelling.
ONE_SPECIES = 0.5


def read_orthologs(path: Path) -> pd.DataFrame:
    """Return the rows of a table of orthologs as text: the first column names genes as the graph does.

    Raises
    ------
    GraphError
        If there is no such table, or it has one column alone.
    """
    where = f"graph.orthologs · {path.name}"
    if not path.is_file():
        raise GraphError(where, "no such file", mend="check the path (relative paths resolve against AIVC_DATA)")
    try:
        with path.open() as opened:
            between = "\t" if "\t" in opened.readline() else ","
        table = pd.read_csv(path, sep=between, header=None, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise GraphError(
            where, f"no table that can be read ({error})", "columns with a tab or comma between"
        ) from error
    if table.shape[1] < 2:
        raise GraphError(where, "one column", "a gene of the graph's species, and its ortholog", "check the separator")
    return table


def named_alike(tables: Iterable[Mapping[str, Any]], orthologs: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return tables (AnnData by section, level by level) whose genes are named alike.

    Of an Ensembl id, whatever its version, the symbol that another table has for it (``var["gene_id"]``); of a symbol
    in other capitals the spelling of the first table, where half of all names agree as they stand; of a section named
    as another column of `orthologs` the gene in their first column, if each is the only one of the other. A name that
    two genes would share is left as it was.

    Raises
    ------
    GraphError
        If `orthologs` name no gene of any table.
    """
    tables = [dict(found) for found in tables]
    every = [table for found in tables for table in found.values()]
    symbol = {
        ENSEMBL.sub(r"\1", gene_id): name
        for table in every
        if GENE_ID in table.var
        for gene_id, name in zip(table.var[GENE_ID].astype(str), table.var_names, strict=True)
        if ENSEMBL.match(gene_id) and not ENSEMBL.match(name)
    }
    own = {*symbol.values(), *(ENSEMBL.sub(r"\1", name) for table in every for name in table.var_names.astype(str))}
    if orthologs is not None and not orthologs.isin(own).to_numpy().any():
        found, sought = ", ".join(map(repr, orthologs.iloc[-1])), ", ".join(map(repr, every[0].var_names[:3]))
        raise GraphError("graph.orthologs", f"names such as {found}", f"genes of the sections, such as {sought}")
    first = pd.Index(_translated(every[0], symbol, orthologs)[0])
    return [
        {section: _renamed(table, symbol, orthologs, first, section) for section, table in found.items()}
        for found in tables
    ]


def _translated(table: Any, symbol: Mapping[str, str], orthologs: pd.DataFrame | None) -> tuple[pd.Series, bool]:
    """Return symbols for ids, and orthologs for genes of another species, and whether they are of another."""
    found = _mapped(pd.Series(table.var_names.astype(str)).str.replace(ENSEMBL, r"\1", regex=True), symbol)
    of = {} if orthologs is None else _ortholog_of(found, orthologs)
    return _mapped(found, of), bool(of)


def _renamed(table: Any, symbol: Mapping[str, str], orthologs: pd.DataFrame | None, first: pd.Index, who: str) -> Any:
    names, (found, foreign) = table.var_names.astype(str), _translated(table, symbol, orthologs)
    if not foreign:
        found = _mapped(found, _spelling_of(found, first))
    twice = found.duplicated(keep=False).to_numpy()
    named = np.where(twice, names, found)
    if (named == names).all() or len(set(named)) < len(named):
        return table
    import anndata as ad

    log.info("%s: %d of %d genes renamed, such as %s", who, (named != names).sum(), len(names), _example(names, named))
    return ad.AnnData(
        table.X, obs=table.obs, var=table.var.set_axis(pd.Index(named, dtype=object), axis=0), uns=table.uns
    )


def _mapped(names: pd.Series, of: Mapping[str, str]) -> pd.Series:
    return pd.Series([of.get(name, name) for name in names], dtype=object)


def _ortholog_of(names: pd.Series, orthologs: pd.DataFrame) -> dict[str, str]:
    """Return the gene of the first column for each name of another, where most of a section's names are of that one."""
    there = orthologs.isin(set(names)).sum()
    column = 1 + int(np.argmax(there.to_numpy()[1:]))
    if there[column] <= there[0]:
        return {}
    pairs = orthologs[[0, column]][orthologs[column].isin(set(names))].drop_duplicates()
    single = ~pairs[0].duplicated(keep=False) & ~pairs[column].duplicated(keep=False) & (pairs[0] != "")
    return dict(zip(pairs[column][single], pairs[0][single], strict=True))


def _spelling_of(names: pd.Series, first: pd.Index) -> dict[str, str]:
    """Return the first table's spelling of names that differ from it by capitals alone."""
    own = set(names)
    shared = sum(name in own for name in first)
    if shared < ONE_SPECIES * min(len(own), len(first)):
        return {}
    spelt = {name.upper(): name for name in first if name not in own}
    return {name: spelt[name.upper()] for name in own - set(first) if name.upper() in spelt}


def _example(names: pd.Index, named: np.ndarray) -> str:
    one = int(np.flatnonzero(named != names)[0])
    return f"{names[one]!r} as {named[one]!r}"
