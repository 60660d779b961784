"""What every reader asks of what it read, so that no guard exists in one reader only.

Rows: which are kept, which lie off the tissue, whether several sections or planes lie on the same ground.
Features: what is a control, what is of another kind, what is a column of annotation that was taken for a gene.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.genes import Duplicates, name_genes
from aivc_graph.io.ground import GROUP
from aivc_graph.io.tables import need_columns, numbers
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.naming import name_of, names_of
from aivc_graph.tissue.parting import cut_to_nodes
from aivc_graph.tissue.section import add_observation

log = logging.getLogger(__name__)

Keep = dict[str, int | float | str | tuple[int | float | str, ...]]
IN_TISSUE = "in_tissue"
KIND_COLUMNS = ("feature_types", "feature_type")
GENES = "Gene Expression"
# Xenium's proteins are mean intensities, which its matrix scales to whole numbers.
SCALED = "Protein Expression"
MODALITIES = {GENES: names.RNA, "Antibody Capture": names.ADT, SCALED: names.ADT}
# What others call the same.
ALSO = {"GEX": GENES, "ADT": "Antibody Capture"}

_CONTROL_KIND = re.compile(r"(?i)control|blank|codeword|negative")
_CONTROL_NAME = re.compile(
    r"^(?:(?i:neg(?:ative)?[-_ ]?(?:ctrl|control|prb|probe|codeword))|(?i:negative[-_ ]?\d+$)|NEG_[A-Z]$"
    r"|SystemControl|FalseCode|(?i:blank)[-_ ]?\d*(?:$|[-_ ])|(?i:(?:unassigned|deprecated)(?:codeword)?)(?:$|[-_ ]\d)"
    r"|antisense_|Intergenic_Region|ERCC-\d{5}$)"
)
# Columns that tables of cells carry beside their genes; in small letters, as no gene of man or mouse is spelt.
_ANNOTATION = re.compile(
    r"^(?:fov|phenograph|(?:[cC]lusters?|leiden|louvain|seurat_clusters)(?:_?id|_[\d.]+)?|batch|sample|section|slide"
    r"|library(?:_id|_size)?|in_tissue|n?_?(?:total_)?(?:counts?|genes|umis?|UMIs?|features|transcripts|cells)(?:_by_counts)?"
    r"|[nN]_?(?:Count|Feature|count|feature)(?:_?(?:RNA|Spatial|Xenium|rna|spatial))?|(?:log1p_|pct_|percent[._]).*"
    r"|(?:transcript|nucleus|(?:control_probe|\w+_codeword|genomic_control))_counts?|(?:cell_|nucleus_)?(?:area|volume|size)"
    r"|Area|Width|Height|AspectRatio|anisotropy|(?:image_?)?(?:row|col)|(?:array_|pxl_).*"
    r"|Unnamed: \d+|index|label|(?:cell_?|entity_?|Entity)(?:id|ID|type|index)(?:_id)?)"
    r"(?:_res[\d._]+)?$"
)
# Axes of an embedding come as a series from the first on; PCA3 alone is a gene.
_AXIS = re.compile(r"^((?:[xX]_)?(?:umap|UMAP|tsne|tSNE|TSNE|pca|PCA)_?)(\d+)$")
_MIN_ROWS, _CONSTANT_ROWS = 20, 100
_EMPTY = 0.05
_DEEP = 50  # counts in a row, from which on equal sums say something
# Sums of the same cells differ by controls alone.
_SAME_SUMS = 0.5
SUMS = ("total_counts", "n_counts", "nCount_RNA", "nCount_Spatial", "nUMI", "nUMIs", "n_umis")


def kept_rows(columns: pd.DataFrame, keep: Mapping[str, Any], only_in_tissue: bool, where: str) -> NDArray[np.bool_]:
    """Return which rows ``(row,)`` have the values asked for and, where a column says so, lie on tissue.

    Parameters
    ----------
    columns
        Annotation, one row a node.
    keep
        Value, or several of which one will do, by column.
    only_in_tissue
        Leave out rows whose ``in_tissue`` is 0.

    Raises
    ------
    ReadError
        No such column, no row left, an ``in_tissue`` that is neither 0 nor 1.
    """
    need_columns(columns, tuple(keep), where)
    kept = np.ones(len(columns), bool)
    for name, value in keep.items():
        wanted = value if isinstance(value, tuple | list) else (value,)
        column = columns[name]
        text = names_of(column.astype(int) if column.dtype == bool else column)
        asked_for = [name_of(one) for one in wanted]
        absent = [one for one in asked_for if one not in set(text)]
        if absent and len(absent) < len(asked_for):
            doubt(f"{where} · {name}", f"no row with {', '.join(map(repr, absent))}", "all of `keep:`", "check `keep:`")
        kept &= np.isin(text, asked_for)
    if not kept.all():
        log.info("%s: %s of %s rows kept", where, f"{kept.sum():,}", f"{len(kept):,}")
    if len(columns) and not kept.any():
        asked = ", ".join(f"{name} = {value!r}" for name, value in keep.items())
        raise ReadError(where, f"none of {len(columns):,} rows with {asked}", "some", "check `keep:`")
    if only_in_tissue and IN_TISSUE in columns:
        flag = on_tissue(columns[IN_TISSUE], where)
        log.info("%s: %s of %s spots on tissue", where, f"{flag.sum():,}", f"{len(flag):,}")
        if kept.any() and not (kept & flag).any():
            mend = "`only_in_tissue: false` takes all"
            raise ReadError(f"{where} · {IN_TISSUE}", f"0 of each of {len(flag):,} spots", "some on tissue", mend)
        kept &= flag
    return kept


def section_names(columns: pd.DataFrame, by: tuple[str, ...], where: str) -> NDArray[np.object_]:
    """Return the section of each row: its values of the columns `by`, joined by ``-``.

    Raises
    ------
    ReadError
        No such column, or rows without a value.
    """
    need_columns(columns, by, where)
    missing = columns[list(by)].isna().any(axis=1).to_numpy()
    if missing.any():
        found = f"{int(missing.sum()):,} rows without a value in {', '.join(by)}"
        raise ReadError(where, found, "the section of every row", "drop these rows, or leave them out by `keep:`")
    parts = [pd.Series(names_of(columns[name]), dtype=object).astype(str) for name in by]
    return np.asarray(pd.concat(parts, axis=1).agg("-".join, axis=1).to_numpy(), dtype=object)


def parted(reader: Any, path: Path, by: tuple[str, ...], columns: pd.DataFrame, where: str) -> dict[str, Any]:
    """Return the sections of a delivery whose nodes have `columns`: each read with the nodes of one value of `by`."""
    need_columns(columns, (*by, *reader.keep), where)
    columns = columns[kept_rows(columns, reader.keep, False, where)]
    first = columns[list(by)].assign(section=section_names(columns, by, where)).drop_duplicates("section")
    found = {}
    for row in first.sort_values("section").to_dict("records"):
        name = row.pop("section")
        found[name] = reader.model_copy(update={"keep": {**reader.keep, **row}}).read(path, name)
        cut_to_nodes(found[name])
    return found


def on_tissue(column: pd.Series, where: str) -> NDArray[np.bool_]:
    """Return an ``in_tissue`` column as a mask ``(row,)``; raise `ReadError` if it is neither 0 nor 1."""
    words = pd.Series(names_of(column)).str.lower().replace({"true": "1", "false": "0"})
    flag = numbers(words.rename(IN_TISSUE), where)
    if not np.isin(flag, [0, 1]).all():
        raise ReadError(f"{where} · {IN_TISSUE}", f"{np.unique(flag)[:5]}", "0 or 1")
    return flag == 1


def add_counts(
    tissue: Any,
    level: str,
    table: Any,
    where: str,
    *,
    modality: str = names.RNA,
    duplicates: Duplicates = "sum",
    organism: str | None = None,
    strip_suffix: bool = False,
    no_genes: str = "drop them from the file",
) -> None:
    """Hang the genes of `table` on `level`, and its antibodies as protein; what is neither is left out and told.

    Parameters
    ----------
    table
        AnnData ``(barcode, feature)``; ``var["feature_types"]``, where there, says what a feature is.
    modality
        What features are that no type tells of.
    duplicates, organism
        See `aivc_graph.io.genes.name_genes`.
    strip_suffix
        See `aivc_graph.tissue.section.add_observation`.
    no_genes
        What the user can do about columns that are no genes.

    Raises
    ------
    ReadError
        No feature is a gene or an antibody; several organisms.
    """
    column = next((name for name in KIND_COLUMNS if name in table.var), None)
    kinds = pd.Series(GENES, table.var_names) if column is None else table.var[column].astype(str).replace(ALSO)
    control = controls(table.var_names, kinds)
    if control.any():
        first = ", ".join(table.var_names[control][:3])
        log.info("%s: %d of %d features dropped as controls (%s …)", where, control.sum(), table.n_vars, first)
    _doubt_depths(table, where)
    added = 0
    for kind in pd.unique(kinds[~control]):
        chosen = ~control & (kinds == kind).to_numpy()
        if kind not in MODALITIES:
            first = ", ".join(table.var_names[chosen][:3])
            found = f"{chosen.sum():,} features of type {kind!r} are left out (first {first})"
            doubt(where, found, " or ".join(map(repr, MODALITIES)), "nothing is learnt from them")
            continue
        if column is None:
            chosen &= ~annotation_columns(table[:, chosen], table.var_names, where, no_genes)
        part = table[:, chosen]
        part = name_genes(part, f"{where} · {kind}" if column else where, duplicates=duplicates, organism=organism)
        part.uns["genes"]["dropped_controls"] = int(control.sum())
        observed = modality if kind == GENES else MODALITIES[kind]
        if kind == SCALED:
            observed = _scaled(part, where)
        add_observation(tissue, level, observed, part, strip_suffix=strip_suffix)
        added += part.n_vars
    if not added:
        raise ReadError(where, "no gene among the features", f"features of type {GENES!r}")


def _scaled(part: Any, where: str) -> str:
    """Return what scaled mean intensities are taken for: counts if they are whole numbers, intensities if not."""
    whole = bool((part.X.data == np.floor(part.X.data)).all())
    if not whole:
        part.X = part.X.toarray()
    taken = "counts of protein" if whole else "intensities"
    tell(f"{where}: {part.n_vars:,} proteins, which are mean intensities, are taken for {taken}")
    return names.ADT if whole else names.INTENSITY


def _doubt_depths(table: Any, where: str) -> None:
    """Doubt rows of which many hold nothing, and whole numbers that add up to the same in all of them.

    Sums that are closer to each other than counting allows are of values that were normalised.
    """
    depth = np.asarray(table.X.sum(axis=1), dtype=np.float64).ravel()
    if (empty := int((depth == 0).sum())) > _EMPTY * len(depth):
        mend = "are they on tissue, and of this run? nothing can be learnt from them: leave them out by `keep:`"
        doubt(where, f"{empty:,} of {len(depth):,} rows without a single count", f"≤ {_EMPTY:.0%}", mend)
    depth = depth[depth > 0]
    if len(depth) < _MIN_ROWS or (usual := float(np.median(depth))) < _DEEP:
        return
    if float(np.std(depth)) < 0.5 * np.sqrt(usual):
        found = f"sums of {usual:,.0f} in each of {len(depth):,} rows, give or take {np.std(depth):,.0f}"
        mend = "if they were normalised and rounded, give the counts before that"
        doubt(where, found, "counts, whose sums differ", mend)


def controls(features: pd.Index, kinds: pd.Series | None = None) -> NDArray[np.bool_]:
    """Return which features ``(feature,)`` are control probes, blanks or codewords, by type or by name."""
    named = pd.Series(features.astype(str)).str.match(_CONTROL_NAME).to_numpy(bool)
    return named if kinds is None else named | kinds.astype(str).str.contains(_CONTROL_KIND).to_numpy(bool)


def left_out(table: Any, *, genes_alone: bool) -> NDArray[np.bool_]:
    """Return which features ``(feature,)`` of logarithms or effects are controls, or with `genes_alone` no genes."""
    column = next((name for name in KIND_COLUMNS if name in table.var), None)
    kinds = None if column is None else table.var[column].astype(str).replace(ALSO)
    left = controls(table.var_names, kinds)
    if not genes_alone:
        return left
    return left | (annotation_names(table.var_names) if kinds is None else (kinds != GENES).to_numpy())


def annotation_names(columns: pd.Index) -> NDArray[np.bool_]:
    """Return which columns ``(column,)`` of a table are annotation by their name: they say what, where or how much."""
    text = pd.Series(columns.astype(str))
    axis = text.str.extract(_AXIS)
    series = axis[0].isin(axis.loc[axis[1].isin(["0", "1"]), 0])
    return (text.str.match(_ANNOTATION) | text.str.match(GROUP) | series).to_numpy(bool)


def annotation_columns(table: Any, features: pd.Index, where: str, mend: str) -> NDArray[np.bool_]:
    """Return which of `features` ``(feature,)`` are no genes, and tell them and how to mend it.

    Those of `table` that are named like annotation, add up all others, or have one value in each of 100 rows or more.
    """
    counts = sparse.csc_matrix(table.X, dtype=np.float64)
    named = annotation_names(table.var_names)
    total = np.asarray(counts[:, ~named].sum(axis=1)).ravel()
    reasons = dict.fromkeys(table.var_names[named], "named like annotation")
    if len(total) >= _MIN_ROWS and total.any():
        sums = np.asarray(counts.sum(axis=0)).ravel()
        full = np.diff(counts.indptr) == len(total)
        for column in np.flatnonzero(~named & (full | (2 * sums >= total.sum()))):
            values = counts[:, [column]].toarray().ravel()
            if np.array_equal(2 * values, total) and (~named).sum() > 2:
                reasons[table.var_names[column]] = "the sum of all others"
            elif full[column] and len(values) >= _CONSTANT_ROWS and np.ptp(values) == 0:
                reasons[table.var_names[column]] = "the same in every row"
    if reasons:
        shown = ", ".join(f"{name!r} ({why})" for name, why in list(reasons.items())[:6])
        found = f"{len(reasons):,} columns left out that are no genes: {shown}"
        doubt(where, found, "genes", mend)
    return np.asarray(features.isin(list(reasons)))


def check_totals(table: Any, cells: pd.DataFrame, candidates: tuple[str, ...], where: str) -> None:
    """Doubt counts whose sums have nothing to do with those that the vendor's list of cells states: other cells.

    Parameters
    ----------
    table
        AnnData ``(cell, feature)``.
    cells
        Annotation, indexed by cell.
    candidates
        Names that a column of sums may have.
    """
    name = next((name for name in candidates if name in cells), None)
    if name is None:
        return
    kind = next((name for name in KIND_COLUMNS if name in table.var), None)
    genes = table if kind is None else table[:, (table.var[kind].astype(str).replace(ALSO) == GENES).to_numpy()]
    sums = pd.Series(np.asarray(genes.X.sum(axis=1)).ravel(), table.obs_names)
    stated = pd.to_numeric(cells[name], errors="coerce")
    both = sums[~sums.index.duplicated()].to_frame("sum").join(stated, how="inner").dropna()
    if len(both) >= _MIN_ROWS and both.nunique().min() > 1 and (r := both["sum"].corr(both[name])) < _SAME_SUMS:
        found = f"counts a cell that correlate with {name!r} of the list of cells at r = {r:.2f}"
        doubt(where, found, f"r ≥ {_SAME_SUMS}", "are counts and cells of one section, in files of one run?")
