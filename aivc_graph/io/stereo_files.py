"""Molecules in the files of Stereo-seq: GEM, a text of one line a gene and spot, and GEF, the same in HDF5."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import open_text
from aivc_graph.io.text_layout import TextLayout, layout_of
from aivc_graph.tissue.naming import names_of

Ints = NDArray[np.int64]
CELLS = "cellBin"  # the group of a GEF that holds cells
_COUNTS = ("MIDCount", "MIDCounts", "UMICount", "MIDcount", "UMI_count", "umi_count", "UMICounts")
_CELLS = ("CellID", "cell", "cell_id", "label")
_NO_CELL = ("0", "-1", "nan", "")
_BLOCK = 5_000_000
_NM = 1e-3


@dataclass(frozen=True)
class Molecules:
    """Counts by node and gene: entry `i` says that `node[i]` holds `count[i]` molecules of `gene[i]`.

    Parameters
    ----------
    nodes, genes
        Names.
    gene_ids
        Ids of the genes, where the file has both.
    xy
        Centre of each node ``(node, 2)`` in spots of the chip.
    area
        Area of each node in spots, where the file states it.
    """

    nodes: NDArray[Any]
    genes: NDArray[Any]
    gene_ids: NDArray[Any] | None
    xy: NDArray[np.float64]
    node: Ints
    gene: Ints
    count: Ints
    area: NDArray[np.float64] | None = None


def is_gem(path: Path) -> bool:
    """Say whether a text begins like a GEM: comments, then columns of gene, place and count."""
    return path.is_file() and _header_of(path) is not None


def gem_molecules(path: Path, bin_size: int, *, by_cell: bool) -> Molecules:
    """Return the molecules of a GEM by square bin, or by the cell it names; those of no cell are left out.

    Raises
    ------
    ReadError
        No such columns, a damaged text, no cell.
    """
    header = _header_of(path)
    if header is None:
        raise ReadError(str(path), "no such header", "geneID, x, y and MIDCount", "is this a GEM?")
    columns = header.lines[0]
    count = next(name for name in _COUNTS if name in columns)
    cell = next((name for name in _CELLS if name in columns), None)
    if by_cell and cell is None:
        mend = "leave out `level:` to read bins, or give the GEM of cells"
        raise ReadError(str(path), f"columns {', '.join(columns)}", "one of cells, such as CellID", mend)
    name = "geneName" if "geneName" in columns else "geneID"
    used = [*dict.fromkeys(["geneID", name, "x", "y", count, *([cell] if by_cell and cell else [])])]
    blocks = _blocks(path, header, used)
    parts = [_gathered(block, name, count, cell if by_cell else None, bin_size) for block in blocks]
    return _joined(parts, path, bin_size, by_cell=by_cell)


def gef_bins(path: Path, bin_size: int) -> tuple[Molecules, float | None]:
    """Return the molecules of a GEF by square bin, and the microns from spot to spot as it states them.

    Bins are those the file holds, or else put together from the largest that divide them. Whether it counts their
    places in spots or in bins is told by content: in spots, all are multiples of the bin.

    Raises
    ------
    ReadError
        No bin of that size or one that divides it, or parts that do not fit each other.
    """
    import h5py

    with h5py.File(path) as file:
        there = sorted(int(one[3:]) for one in file["geneExp"] if one[3:].isdigit() and f"geneExp/{one}/gene" in file)
        own = max((size for size in there if bin_size % size == 0), default=None)
        if own is None:
            sizes = ", ".join(map(str, there)) or "none"
            raise ReadError(f"{path} · bin", str(bin_size), f"one of {sizes}, or a multiple", "choose it as `bin:`")
        group = file[f"geneExp/bin{own}"]
        try:
            entries, genes = group["expression"][()], group["gene"][()]
            stated = group["expression"].attrs.get("resolution")
        except (KeyError, OSError) as error:
            raise ReadError(str(path), f"a damaged GEF ({error})", mend="copy it again from its source") from error
    wanted = ({"x", "y", "count"}, entries), ({"offset", "count"}, genes)
    if not all(fields <= set(part.dtype.names or ()) for fields, part in wanted):
        found = f"fields {entries.dtype.names} and {genes.dtype.names}"
        raise ReadError(f"{path} · bin{own}", found, "x, y, count and a gene, offset, count", "is this a GEF?")
    length = genes["count"].astype(np.int64)
    if not np.array_equal(genes["offset"], np.cumsum(length) - length) or length.sum() != len(entries):
        found = f"genes of {length.sum():,} entries in all, and {len(entries):,} entries"
        raise ReadError(f"{path} · bin{own}", found, "the same, gene after gene", "copy it again from its source")
    x, y = entries["x"].astype(np.int64), entries["y"].astype(np.int64)
    if own > 1 and ((x % own) | (y % own)).any():
        x, y = x * own, y * own
    text = _names(genes)
    gene = np.repeat(np.arange(len(genes)), length)
    block = pd.DataFrame({"gene": gene, "x": x // bin_size, "y": y // bin_size, "count": entries["count"]})
    summed = pd.DataFrame(block.groupby(["gene", "x", "y"], sort=False)["count"].sum()).reset_index()
    summed["name"], summed["id"] = text["name"].to_numpy()[summed["gene"]], text["id"].to_numpy()[summed["gene"]]
    return _joined([summed.drop(columns="gene")], path, bin_size, by_cell=False), _um(stated)


def gef_cells(path: Path) -> tuple[Molecules, float | None]:
    """Return the molecules of a GEF by the cell it puts them in, and the microns from spot to spot as it states them.

    Raises
    ------
    ReadError
        Missing parts or fields, parts that do not fit each other, cells that are named twice.
    """
    import h5py

    where = f"{path} · {CELLS}"
    try:
        with h5py.File(path) as file:
            cells, entries, genes = (file[f"{CELLS}/{name}"][()] for name in ("cell", "cellExp", "gene"))
            stated = file.attrs.get("resolution", file[CELLS].attrs.get("resolution"))
    except (KeyError, OSError) as error:
        raise ReadError(where, f"a damaged GEF ({error})", mend="copy it again from its source") from error
    wanted = {"id", "x", "y", "offset", "geneCount", "area"}, {"geneID", "count"}
    if not all(fields <= set(part.dtype.names or ()) for fields, part in zip(wanted, (cells, entries), strict=True)):
        found = f"fields {cells.dtype.names} and {entries.dtype.names}"
        raise ReadError(where, found, "id, x, y, offset, geneCount, area and geneID, count", "is this a GEF of cells?")
    length, gene = cells["geneCount"].astype(np.int64), entries["geneID"].astype(np.int64)
    whole = np.array_equal(cells["offset"], np.cumsum(length) - length) and length.sum() == len(entries)
    if not whole or (gene >= len(genes)).any() or (gene < 0).any():
        found = f"cells of {length.sum():,} entries in all, {len(entries):,} entries and {len(genes):,} genes"
        raise ReadError(where, found, "the same, cell after cell", "copy it again from its source")
    text, nodes = _names(genes), names_of(pd.Series(cells["id"])).astype(str)
    first, at = _first_seen(text["name"] + "\0" + text["id"])
    named, ids = text["name"].to_numpy()[at], text["id"].to_numpy()[at]
    xy, area = np.column_stack([cells["x"], cells["y"]]).astype(np.float64), cells["area"].astype(np.float64)
    node, count = np.repeat(np.arange(len(cells)), length), entries["count"].astype(np.int64)
    own_ids = None if np.array_equal(named, ids) else ids
    return Molecules(nodes, named, own_ids, xy, node, first[gene], count, area), _um(stated)


def _names(genes: NDArray[Any]) -> pd.DataFrame:
    """Return ``name`` and ``id`` of the genes of a GEF, the same where it has one of them."""
    fields = genes.dtype.names or ()
    symbol = next((name for name in ("geneName", "gene", "geneID") if name in fields), fields[0])
    other = "geneID" if {"geneID", "geneName"} <= set(fields) else symbol
    return pd.DataFrame({"name": _decoded(genes[symbol]), "id": _decoded(genes[other])})


def _um(stated: Any) -> float | None:
    """Return the microns from spot to spot where a GEF states nanometres."""
    return None if stated is None or not np.ravel(stated)[0] else float(np.ravel(stated)[0]) * _NM


def _header_of(path: Path) -> TextLayout | None:
    """Return how a GEM is laid out; `None` if it is none."""
    layout = layout_of(path, 1)
    columns = [] if layout is None else layout.lines[0]
    whole = {"geneID", "x", "y"} <= set(columns) and any(name in columns for name in _COUNTS)
    return layout if whole else None


def _blocks(path: Path, layout: TextLayout, used: list[str]) -> Iterator[pd.DataFrame]:
    options: dict[str, Any] = {
        "skiprows": layout.before + 1,
        "sep": layout.delimiter,
        "names": layout.lines[0],
        "usecols": used,
        "dtype": {name: np.int64 if name in ("x", "y", *_COUNTS) else str for name in used},
        "keep_default_na": False,
    }
    try:
        with open_text(path) as opened:
            yield from pd.read_csv(opened, chunksize=_BLOCK, **options)
    except (ValueError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise ReadError(str(path), f"a damaged GEM ({error})", mend="copy it again from its source") from error


def _gathered(block: pd.DataFrame, name: str, count: str, cell: str | None, bin_size: int) -> pd.DataFrame:
    """Return a block of molecules added up by gene and node."""
    facts = {"name": block[name], "id": block["geneID"], "count": block[count]}
    if cell is None:
        table = pd.DataFrame({**facts, "x": block["x"] // bin_size, "y": block["y"] // bin_size})
        return pd.DataFrame(table.groupby(["name", "id", "x", "y"], sort=False)["count"].sum()).reset_index()
    table = pd.DataFrame({**facts, "cell": names_of(block[cell]), "sx": block["x"], "sy": block["y"]})
    table = table[~table["cell"].isin(_NO_CELL)]
    table["sx"], table["sy"] = table["sx"] * table["count"], table["sy"] * table["count"]
    return table.groupby(["name", "id", "cell"], sort=False)[["count", "sx", "sy"]].sum().reset_index()


def _joined(parts: list[pd.DataFrame], path: Path, bin_size: int, *, by_cell: bool) -> Molecules:
    whole = pd.concat(parts, ignore_index=True)
    if not len(whole):
        raise ReadError(str(path), "no molecule" + (" in a cell" if by_cell else ""), "at least one")
    if (whole["count"] < 0).any():
        raise ReadError(str(path), "negative counts", "counts ≥ 0", "copy it again from its source")
    gene, first = _first_seen(whole["name"] + "\0" + whole["id"])
    genes, ids = whole["name"].to_numpy()[first], whole["id"].to_numpy()[first]
    if by_cell:
        node, at = _first_seen(whole["cell"])
        weight = np.bincount(node, whole["count"])
        xy = np.column_stack([np.bincount(node, whole[axis]) for axis in ("sx", "sy")]) / np.maximum(weight, 1)[:, None]
        nodes = whole["cell"].to_numpy()[at]
    else:
        place, node = np.unique(whole[["x", "y"]].to_numpy(np.int64), axis=0, return_inverse=True)
        node, xy = node.reshape(-1), (place + 0.5) * bin_size
        nodes = np.array([f"{x}_{y}" for x, y in place * bin_size])
    own_ids = None if np.array_equal(genes, ids) else ids
    return Molecules(nodes, genes, own_ids, xy, node, gene, whole["count"].to_numpy(np.int64))


def _first_seen(text: pd.Series) -> tuple[Ints, Ints]:
    """Return the number of each text in order of appearance, and where each first stands."""
    code, _ = pd.factorize(text)
    return code, np.unique(code, return_index=True)[1]


def _decoded(column: NDArray[Any]) -> NDArray[np.object_]:
    return np.array([one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in column], object)
