"""What a gene is called: one organism, symbols that are unique, ids without their version; each change is recorded."""

from __future__ import annotations

import logging
import re
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.matrices import count_table
from aivc_graph.tissue.doubt import doubt

log = logging.getLogger(__name__)

Duplicates = Literal["sum", "refuse"]
RECORD = "genes"
GENE_ID, VERSION = "gene_id", "gene_version"

_ENSEMBL = re.compile(r"^(ENS[A-Z]*[GTP]\d{6,})\.(\d+)$")
_GENOME_PREFIX = re.compile(r"^(GRCh3[78]|hg19|hg38|GRCm3[89]|mm9|mm10|mm39|mRatBN7[-.]2|Rnor6|rn[67])_+")
# What a spreadsheet makes of MARCH1 and SEPT2.
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATE = re.compile(
    rf"(?:\d{{1,2}}-(?:{_MONTHS})|(?:{_MONTHS})-\d{{1,2}}|\d{{4}}-\d\d-\d\d(?: 00:00:00)?)$", re.IGNORECASE
)
_NO_NAME = ("", "nan", "NA", "None")
_HUMAN, _MOUSE, _RAT = "human", "mouse", "rat"
_ORGANISM = {
    **dict.fromkeys(("GRCh37", "GRCh38", "hg19", "hg38"), _HUMAN),
    **dict.fromkeys(("GRCm38", "GRCm39", "mm9", "mm10", "mm39"), _MOUSE),
    **dict.fromkeys(("mRatBN7-2", "mRatBN7.2", "Rnor6", "rn6", "rn7"), _RAT),
}
_ENSEMBL_ORGANISM = {"ENSG": _HUMAN, "ENSMUSG": _MOUSE, "ENSRNOG": _RAT}


def name_genes(table: Any, where: str, *, duplicates: Duplicates = "sum", organism: str | None = None) -> Any:
    """Return `table` ``(barcode, gene)`` with one column a symbol, and what was changed in ``uns["genes"]``.

    An empty symbol is replaced by the gene's id; an Ensembl id loses its version, kept in ``var["gene_version"]``;
    columns that share a symbol are added up, ``var["gene_id"]`` then holding the first of their ids.

    Parameters
    ----------
    table
        AnnData whose ``var_names`` are symbols or ids; ``var["gene_ids"]`` and ``var["genome"]`` are used where there.
    duplicates
        What to do with columns that share a symbol.
    organism
        ``human``, ``mouse``, ``rat`` or a genome's name: keeps the genes of that one where several are mixed.

    Raises
    ------
    ReadError
        Several organisms and none chosen; none of the chosen one; duplicate symbols if those are refused.
    """
    symbols = pd.Series(table.var_names.astype(str))
    ids = pd.Series(table.var["gene_ids"].astype(str).to_numpy()) if "gene_ids" in table.var else symbols.copy()
    genomes = table.var["genome"].astype(str).to_numpy() if "genome" in table.var else np.full(len(symbols), "")
    kept = _one_organism(_organisms(symbols, ids, genomes), genomes, table.X, where, organism)
    symbols, ids = (_bare(names[kept]) for names in (symbols, ids))
    parts = ids.str.extract(_ENSEMBL)
    versions = parts[1].fillna("")
    ids = ids.where(versions == "", parts[0])
    symbols = symbols.str.replace(_ENSEMBL, r"\1", regex=True)
    symbols = symbols.where(~symbols.isin(_NO_NAME), ids)
    if nameless := int(symbols.isin(_NO_NAME).sum()):
        mend = "name them in the file, or by `symbols:` where the reader has it"
        raise ReadError(where, f"{nameless:,} of {len(symbols):,} features without symbol or id", "a name each", mend)
    if (dates := symbols[symbols.str.match(_DATE)]).size:
        found = f"{len(dates):,} genes named like dates ({', '.join(map(repr, dates[:3]))})"
        doubt(where, found, "symbols", "a spreadsheet has opened this file: take names such as MARCHF1 from its source")
    var = table.var.loc[kept].drop(columns=[c for c in ("gene_ids", "genome") if c in table.var])
    var = var.assign(**{GENE_ID: ids.to_numpy()})
    if (versions != "").any():
        var[VERSION] = versions.to_numpy()
    var.index = pd.Index(symbols.to_numpy(dtype=object), name=None)
    named, summed = _unique(table.X if kept.all() else table.X[:, kept], var, where, duplicates)
    record = {
        "var_names": "symbols; an empty one is replaced by the id, counts of one symbol are added up",
        "versions_stripped": int((versions != "").sum()),
        "summed": np.array(summed, dtype=str),
        "without_ensembl_id": int((~ids.str.match(r"^ENS[A-Z]*\d")).sum()),
        "dropped_other_organism": int((~kept).sum()),
    }
    notable = [f"{n:,} {key.replace('_', ' ')}" for key, n in record.items() if isinstance(n, int) and n]
    log.info("%s: %s", where, ", ".join([f"{len(named[1]):,} genes", *notable]))
    result = count_table(named[0], table.obs_names, named[1])
    result.uns[RECORD] = record
    return result


def _bare(names: pd.Series) -> pd.Series:
    return names.str.replace(_GENOME_PREFIX, "", regex=True).reset_index(drop=True)


def _organisms(symbols: pd.Series, ids: pd.Series, genomes: np.ndarray) -> np.ndarray:
    """Say of each gene whose it is, ``""`` if nothing tells."""
    of_prefix = [names.str.extract(_GENOME_PREFIX)[0].map(_ORGANISM).to_numpy(dtype=object) for names in (symbols, ids)]
    of_genome = pd.Series(genomes, dtype=object).map(_ORGANISM).to_numpy(dtype=object)
    of_ensembl = ids.str.extract(r"^(ENS[A-Z]*G)\d")[0].map(_ENSEMBL_ORGANISM).to_numpy(dtype=object)
    found = np.full(len(symbols), "", dtype=object)
    for source in (of_ensembl, of_genome, *reversed(of_prefix)):
        found = np.where(pd.isna(source), found, source)
    return found.astype(str)


def _one_organism(
    organisms: np.ndarray, genomes: np.ndarray, counts: Any, where: str, organism: str | None
) -> np.ndarray:
    """Return which genes to keep."""
    there = sorted(set(organisms) - {""})
    if organism is not None:
        wanted = _ORGANISM.get(organism, organism)
        # A file that says nothing of its organism is taken at the user's word.
        kept = (organisms == wanted) if there else np.ones(len(organisms), bool)
        if not kept.any():
            raise ReadError(
                f"{where} · organism", f"genes of {', '.join(there)}", organism, "set `organism:` to one of these"
            )
        return kept
    if len(there) > 1:
        total = np.asarray(counts.sum(axis=0)).ravel()
        share = {o: total[organisms == o].sum() / max(total.sum(), 1) for o in there}
        rows = "\n".join(f"  {o:<8} {(organisms == o).sum():>8,} genes {share[o]:>8.1%} of the counts" for o in there)
        raise ReadError(where, f"genes of {len(there)} organisms", "one", f"set `organism:` to one of\n{rows}")
    return np.ones(len(organisms), bool)


def _copies(counts: Any, symbols: np.ndarray, codes: np.ndarray, where: str) -> np.ndarray:
    """Return which columns ``(gene,)`` repeat an earlier one of their symbol value for value, and tell them."""
    table, copies = sparse.csc_matrix(counts), np.zeros(len(codes), bool)
    seen: dict[tuple[int, bytes, bytes], int] = {}
    for column in np.flatnonzero(np.bincount(codes)[codes] > 1).tolist():
        here = slice(table.indptr[column], table.indptr[column + 1])
        key = (int(codes[column]), table.indices[here].tobytes(), table.data[here].tobytes())
        copies[column] = here.stop > here.start and key in seen
        seen.setdefault(key, column)
    if copies.any():
        shown = ", ".join(map(repr, sorted(set(symbols[copies]))[:5]))
        doubt(where, f"{copies.sum():,} genes twice with the same counts ({shown})", "each once", "one is kept")
    return copies


def _unique(
    counts: Any, var: pd.DataFrame, where: str, duplicates: Duplicates
) -> tuple[tuple[Any, pd.DataFrame], list[str]]:
    twice = sorted(set(var.index[var.index.duplicated()]))
    if not twice:
        return (counts, var), []
    if duplicates == "refuse":
        shown = ", ".join(map(repr, twice[:5]))
        raise ReadError(
            where,
            f"{len(twice):,} symbols that stand for several columns: {shown}",
            "unique symbols",
            "set `duplicates: sum`",
        )
    codes, first = pd.factorize(var.index)
    copies = _copies(counts, var.index.to_numpy(), codes, where)
    counts, var, codes = counts[:, ~copies], var[~copies], codes[~copies]
    add = sparse.csr_matrix(
        (np.ones(len(codes), np.float32), (np.arange(len(codes)), codes)), shape=(len(codes), len(first))
    )
    return (sparse.csr_matrix(counts @ add), var[~var.index.duplicated()]), twice
