"""Stereo-seq: GEM and GEF of the same molecules, bins put together, cells, and what is wrong with either."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import diameters_um, positions_um

COMMENTS = "#FileFormat=GEMv0.1\n#SortedBy=None\n#BinSize=1\n#STOmicsChip=SS1\n#OffsetX=0\n#OffsetY=0\n"


@pytest.fixture
def molecules() -> pd.DataFrame:
    """1,500 places of three genes on 200 × 150 spots, sorted by gene."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"geneID": rng.choice(["A", "B", "C"], 1500), "x": rng.integers(0, 200, 1500)})
    table["y"], table["MIDCount"] = rng.integers(0, 150, 1500), rng.integers(1, 4, 1500)
    table["CellID"] = 1 + table["x"] // 40 + 5 * (table["y"] // 50)
    table.loc[::10, "CellID"] = 0
    return table.sort_values(["geneID", "x", "y"], ignore_index=True)


def _gem(table: pd.DataFrame, path: Path, comments: str = COMMENTS) -> Path:
    text = comments + table.to_csv(sep="\t", index=False)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def _gef(table: pd.DataFrame, path: Path, bins: tuple[int, ...] = (1,), *, in_bins: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        for size in bins:
            place = table.assign(x=table["x"] // size, y=table["y"] // size)
            summed = place.groupby(["geneID", "x", "y"], as_index=False)["MIDCount"].sum()
            step = 1 if in_bins else size
            entries = np.zeros(len(summed), [("x", "u4"), ("y", "u4"), ("count", "u2")])
            entries["x"], entries["y"], entries["count"] = step * summed["x"], step * summed["y"], summed["MIDCount"]
            length = summed.groupby("geneID").size()
            genes = np.zeros(len(length), [("gene", "S64"), ("offset", "u4"), ("count", "u4")])
            genes["gene"], genes["count"] = length.index.to_numpy().astype("S"), length.to_numpy()
            genes["offset"] = np.cumsum(length) - length
            file[f"geneExp/bin{size}/expression"], file[f"geneExp/bin{size}/gene"] = entries, genes
            file[f"geneExp/bin{size}/expression"].attrs["resolution"] = np.uint32(500)
    return path


def _counts(section: Any, level: str = "patch") -> pd.DataFrame:
    return section.tables[f"{level}_rna"].to_df().sort_index(axis=0).sort_index(axis=1)


def _expected(table: pd.DataFrame, size: int) -> pd.DataFrame:
    name = (table["x"] // size * size).astype(str) + "_" + (table["y"] // size * size).astype(str)
    return (
        table.assign(name=name).pivot_table(index="name", columns="geneID", values="MIDCount", aggfunc="sum").fillna(0)
    )


@pytest.mark.parametrize("name", ["a.gem", "a.gem.gz"])
def test_bins_of_a_gem_hold_their_molecules(molecules: pd.DataFrame, tmp_path: Path, name: str) -> None:
    path = _gem(molecules, tmp_path / name)
    assert recognise(path) == "stereo_seq"
    with doubts_heard() as doubts:
        section = read(path)
    pd.testing.assert_frame_equal(
        _counts(section), _expected(molecules, 50), check_names=False, check_dtype=False, check_index_type=False
    )
    corner = section.shapes["patch"].index.get_loc("50_100")
    assert positions_um(section, "patch")[corner].tolist() == [37.5, 62.5]
    assert (diameters_um(section, "patch") == 25).all()
    assert "0.5 µm from spot to spot" in doubts[0]
    with doubts_heard() as doubts:
        read(path, um_per_unit=0.5)
    assert not doubts


def test_newer_gems_name_genes_twice_and_need_no_comments(molecules: pd.DataFrame, tmp_path: Path) -> None:
    ids = molecules["geneID"].map({"A": "ENSG00000000001", "B": "ENSG00000000002", "C": "ENSG00000000003"})
    table = molecules.drop(columns="CellID").rename(columns={"geneID": "geneName"}).assign(ExonCount=0)
    table.insert(0, "geneID", ids)
    found = read(_gem(table, tmp_path / "a.gem", ""), bin=20).tables["patch_rna"]
    assert sorted(found.var_names) == ["A", "B", "C"] and found.var.loc["B", "gene_id"] == "ENSG00000000002"
    assert found.X.sum() == molecules["MIDCount"].sum()


@pytest.mark.parametrize(("bins", "in_bins"), [((1,), False), ((1, 10, 50), False), ((50,), True), ((10,), True)])
def test_gef_says_what_gem_says(molecules: pd.DataFrame, tmp_path: Path, bins: tuple[int, ...], in_bins: bool) -> None:
    path = _gef(molecules, tmp_path / "a.gef", bins, in_bins=in_bins)
    assert recognise(path) == "stereo_seq"
    with doubts_heard() as doubts:
        section = read(path, bin=50)
    assert not doubts and section.shapes["patch"].index.is_unique
    same = read(_gem(molecules, tmp_path / "a.gem"), bin=50)
    pd.testing.assert_frame_equal(_counts(section), _counts(same), check_names=False)
    with pytest.raises(ReadError, match=r"resolution: expected 1, found 0.5 µm from spot to spot; give it as `um_per"):
        read(path, bin=50, um_per_unit=1.0)


def test_cells_of_a_gem_lie_at_the_centre_of_their_molecules(molecules: pd.DataFrame, tmp_path: Path) -> None:
    path = _gem(molecules, tmp_path / "a.gem")
    section = read(path, level="cell", diameter_um=12)
    inside = molecules[molecules["CellID"] > 0]
    assert _counts(section, "cell").to_numpy().sum() == inside["MIDCount"].sum()
    one = inside[inside["CellID"] == 7]
    place = positions_um(section, "cell")[section.shapes["cell"].index.get_loc("7")]
    assert place == pytest.approx([0.5 * np.average(one[axis], weights=one["MIDCount"]) for axis in ("x", "y")])
    with pytest.raises(ReadError, match=r"size: expected the size of a node.*`area:` nor `diameter_um:`"):
        read(path, level="cell")
    with pytest.raises(ReadError, match=r"expected one of cells, such as CellID, found columns geneID.*`level:`"):
        read(_gem(molecules.drop(columns="CellID"), tmp_path / "b.gem"), level="cell", diameter_um=12)


def test_faults_are_named(molecules: pd.DataFrame, tmp_path: Path) -> None:
    gef = _gef(molecules, tmp_path / "a.gef", (10, 100))
    with pytest.raises(ReadError, match=r"bin: expected one of 10, 100, or a multiple, found 5; choose it as `bin:`"):
        read(gef, bin=5)
    with h5py.File(gef, "r+") as file:
        genes = file["geneExp/bin10/gene"][()]
        genes["count"][0] += 1
        file["geneExp/bin10/gene"][...] = genes
    with pytest.raises(ReadError, match=r"bin10: expected the same, gene after gene, found genes of"):
        read(gef, bin=50)
    bad = molecules.astype({"x": object})
    bad.loc[3, "x"] = "12O"
    with pytest.raises(ReadError, match=r"bad.gem: a damaged GEM \("):
        read(_gem(bad, tmp_path / "bad.gem"))


def _cell_gef(table: pd.DataFrame, path: Path) -> Path:
    """Write the cells of `molecules` as the vendor's cellbin.gef does, with areas of 400 spots."""
    inside = table[table["CellID"] > 0]
    names = sorted(inside["geneID"].unique())
    summed = inside.groupby(["CellID", "geneID"])["MIDCount"].sum().reset_index()
    entries = np.zeros(len(summed), [("geneID", "u4"), ("count", "u2")])
    entries["geneID"], entries["count"] = [names.index(one) for one in summed["geneID"]], summed["MIDCount"]
    length = summed.groupby("CellID").size()
    fields = [("id", "u4"), ("x", "i4"), ("y", "i4"), ("offset", "u4"), ("geneCount", "u2"), ("area", "u2")]
    cells = np.zeros(len(length), fields)
    cells["id"], cells["geneCount"], cells["area"] = length.index, length, 400
    cells["offset"] = np.cumsum(length) - length
    cells["x"], cells["y"] = (inside.groupby("CellID")[axis].mean().round() for axis in ("x", "y"))
    genes = np.zeros(len(names), [("geneName", "S64"), ("offset", "u4"), ("cellCount", "u4")])
    genes["geneName"] = names
    with h5py.File(path, "w") as file:
        file["cellBin/cell"], file["cellBin/cellExp"], file["cellBin/gene"] = cells, entries, genes
    return path


def test_a_gef_of_cells_says_what_the_gem_of_cells_says(molecules: pd.DataFrame, tmp_path: Path) -> None:
    path = _cell_gef(molecules, tmp_path / "a.cellbin.gef")
    assert recognise(path) == "stereo_seq"
    section = read(path)
    same = read(_gem(molecules, tmp_path / "a.gem"), level="cell", diameter_um=12)
    pd.testing.assert_frame_equal(_counts(section, "cell"), _counts(same, "cell"), check_names=False)
    assert diameters_um(section, "cell") == pytest.approx(2 * np.sqrt(400 * 0.25 / np.pi))
    order = same.shapes["cell"].index
    there = pd.DataFrame(positions_um(section, "cell"), index=section.shapes["cell"].index).loc[order]
    assert np.abs(there.to_numpy() - positions_um(same, "cell")).max() < 5
    assert (diameters_um(read(path, level="cell", diameter_um=9), "cell") == 9).all()


def test_faults_of_a_gef_of_cells_are_named(molecules: pd.DataFrame, tmp_path: Path) -> None:
    path = _cell_gef(molecules, tmp_path / "a.cellbin.gef")
    with pytest.raises(ReadError, match=r"level: expected `level: patch`, found cells; leave out `level:`, or give"):
        read(path, level="patch")
    with pytest.raises(ReadError, match=r"level: expected `level: cell`, found bins; leave out `level:`, or give the"):
        read(_gef(molecules, tmp_path / "b.gef"), level="cell", diameter_um=12)
    for field, value, part in (("geneID", 99, "cellExp"), ("geneCount", 3, "cell")):
        broken = _cell_gef(molecules, tmp_path / f"{field}.gef")
        with h5py.File(broken, "r+") as file:
            data = file[f"cellBin/{part}"][()]
            data[field][0] = data[field][0] + value
            file[f"cellBin/{part}"][...] = data
        with pytest.raises(ReadError, match=r"cellBin: expected the same, cell after cell, found cells of"):
            read(broken)
