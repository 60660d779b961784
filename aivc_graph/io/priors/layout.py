"""The contract of a layout of priors, the registry of layouts, and `read_prior`, which picks one by content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.h5ad_file import file_hashes
from aivc_graph.io.tables import read_frame
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings
from aivc_graph.tissue.prior import EDGE_COLUMNS, Prior

KnownRelation = Literal["regulates", "binds", "interacts", "encodes", "near", "describes"]


class PriorConfig(Settings):
    """One file of what is known about molecules, whose layout is told by content.

    Parameters
    ----------
    path
        A table of relations (GMT, SIF, CellChat, LIANA, DoRothEA or CollecTRI, STRING, or named columns), of vectors
        (gene × d as CSV, TSV, Parquet, HDF5 or npz), or of gene positions.
    relation
        What a row says: ``regulates``, ``binds``, ``interacts``, ``encodes``; ``near``, positions of genes, to which
        peaks are led; ``describes``, columns or sets that describe genes. By default what the layout usually holds.
    species
        Whose names the file uses, such as ``human``; it is kept for the card.
    names_by
        A table of which one column holds the file's names and another the tissue's: Ensembl ids and symbols,
        orthologs, or STRING's aliases. The columns are found by what they hold.
    source, target, sign, weight
        Columns of a plain table, where they have other names.
    resource
        Rows of this resource alone, of a table with a column ``resource``; ``consensus`` of LIANA if not given.
    confidence
        Rows of these letters alone, of a table with a column ``confidence``.
    least_weight
        Rows of a lower weight are left out.
    within_bp
        Distance [base pairs] up to which a peak is led to a gene.
    """

    path: Path
    relation: KnownRelation | None = None
    species: str | None = None
    names_by: Path | None = None
    source: str | None = None
    target: str | None = None
    sign: str | None = None
    weight: str | None = None
    resource: str | None = None
    confidence: str | None = None
    least_weight: float = 0.0
    within_bp: int = Field(100_000, ge=0)


class AbstractLayout(ABC):
    """One layout of prior knowledge: how to tell it, what it usually holds, and how to read it."""

    relation: ClassVar[KnownRelation]
    # Whether a row may be taken as a relation or as a column that describes a molecule, as the configuration says.
    sets: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Say by content, cheaply, whether `path` is of this layout."""

    @classmethod
    @abstractmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row an edge, ``source``, ``target`` and, as far as known, ``sign`` and ``weight``; or a table."""


LAYOUTS: Registry[type[AbstractLayout]] = Registry("layout of priors", "aivc_graph.io.priors")
# Asked last: they take what no other layout claims.
LAST = ("columns", "sif", "vectors")
# Columns of a table of names that are compared.
MOST_COLUMNS = 40


def read_prior(config: PriorConfig) -> Prior:
    """Return what one file says, with its hash.

    Raises
    ------
    ReadError
        No such file, a layout that none recognises (each says what it expects), damaged, or nothing left in it.
    """
    where, path = str(config.path), config.path
    if not path.is_file():
        raise ReadError(where, "no such file", mend="check the path (relative paths resolve against AIVC_DATA)")
    name = _layout_of(path, config.relation)
    layout = LAYOUTS[name]
    relation = config.relation or layout.relation
    fixed = layout.relation in (names.NEAR, names.DESCRIBES) and not layout.sets
    if relation != layout.relation and (fixed or relation in (names.NEAR, names.DESCRIBES)) and not layout.sets:
        found = f"{name}, which say no {relation!r}"
        raise ReadError(where, found, mend=f"leave out `relation:`, or write `relation: {layout.relation}`")
    table = layout.read(config)
    facts = {"file": path.name, "layout": name, "relation": relation, "rows": len(table), **file_facts(config)}
    if not fixed:
        table = _edges(table, where, config)
        table = _indicators(table) if relation == names.DESCRIBES else table
    if not len(table):
        raise ReadError(where, "no row that says anything", "a row a relation or molecule", "check the options")
    given = None if config.names_by is None else _names(config.names_by)
    return Prior(relation, table, facts, config.within_bp, given)


def _names(path: Path) -> pd.DataFrame:
    """Return a table of names as text, with its first line among them: it may be a header or a row."""
    return read_frame(path, header=False).iloc[:, :MOST_COLUMNS].astype(str)


def file_facts(config: PriorConfig) -> dict[str, Any]:
    """Return the hash of a file, and whose names it uses, where that is told."""
    species = {} if config.species is None else {"species": config.species}
    return {"sha256": file_hashes(config.path)[config.path.name], **species}


def _layout_of(path: Path, relation: str | None) -> str:
    order = [name for name in LAYOUTS if name not in LAST] + list(LAST)
    if relation == names.DESCRIBES:  # a table of numbers by gene is a vector file, whatever its columns are called
        order = ["gmt", "progeny", "vectors"]
    for name in order:
        with suppress(ReadError, OSError, ValueError):
            if LAYOUTS[name].recognises(path):
                return name
    expectations = "\n".join(f"  {name}: {LAYOUTS.facts[name].get('expects', '')}" for name in LAYOUTS)
    raise ReadError(str(path), "no layout of priors recognises it", mend=f"each expects:\n{expectations}")


def _edges(table: pd.DataFrame, where: str, config: PriorConfig) -> pd.DataFrame:
    """Return edges with all four columns, each pair once: the heavier of two counts, no molecule to itself.

    Where rows of the same weight disagree about the sign of a pair, it is not known.
    """
    table = table.dropna(subset=["source", "target"]).astype({"source": str, "target": str})
    weight = table["weight"].to_numpy(float) if "weight" in table else np.ones(len(table))
    given = table["sign"].to_numpy(float) if "sign" in table else np.minimum(weight, 0.0)
    sign = np.nan_to_num(np.sign(given))
    if not np.isfinite(weight).all():
        raise ReadError(where, f"{int((~np.isfinite(weight)).sum()):,} weights that are no numbers", "finite weights")
    found = table[["source", "target"]].assign(sign=sign, weight=np.abs(weight))
    kept = (found["weight"] > 0) & (found["weight"] >= config.least_weight) & (found["source"] != found["target"])
    found = found[kept].sort_values("weight", ascending=False, kind="stable")
    alike = found.groupby(["source", "target", "weight"], sort=False)["sign"]
    found["sign"] = np.sign(alike.transform("min") + alike.transform("max"))
    return found.drop_duplicates(["source", "target"]).sort_values(["source", "target"])[list(EDGE_COLUMNS)]


def _indicators(edges: pd.DataFrame) -> pd.DataFrame:
    """Return sets as columns that describe their members: signed weight, zero of who is in no such set."""
    value = edges["weight"] * edges["sign"].where(edges["sign"] != 0, 1.0)
    return edges.assign(value=value).pivot(index="target", columns="source", values="value").fillna(0.0)
