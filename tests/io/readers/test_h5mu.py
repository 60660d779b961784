"""MuData: modalities of unequal cells become modalities of one section, placed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import positions_um

PLACED: dict[str, Any] = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 8.0}


def _part(cells: list[str], features: list[str], seed: int) -> Any:
    counts = np.random.default_rng(seed).poisson(2.0, (len(cells), len(features))).astype(np.float32)
    obs = pd.DataFrame({"depth": counts.sum(axis=1)}, index=cells)
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=features))


@pytest.fixture
def parts() -> dict[str, Any]:
    """Sixty cells: fifty with RNA, and fifty with proteins, forty of them both."""
    cells = [f"c{i}" for i in range(60)]
    found = {"rna": _part(cells[:50], ["A", "B", "C"], 0), "prot": _part(cells[10:], ["CD3", "CD4"], 1)}
    found["rna"].obs["kind"] = np.array(["x", "y"])[np.arange(50) % 2]
    return found


def _write(parts: dict[str, Any], path: Path, spatial: str = "") -> Path:
    cells = sorted(set().union(*(part.obs_names for part in parts.values())), key=lambda name: int(name[1:]))
    place = pd.DataFrame(
        {"x": [10.0 * (int(c[1:]) % 8) for c in cells], "y": [10.0 * (int(c[1:]) // 8) for c in cells]}
    )
    place.index = cells
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "MuData"
        write_elem(file, "obs", pd.DataFrame({"donor": "d1"}, index=cells))
        write_elem(file, "obsm", {"spatial": place.to_numpy()} if spatial == "whole" else {})
        for name, part in parts.items():
            if spatial == "parts":
                part.obsm["spatial"] = place.loc[part.obs_names].to_numpy()
            write_elem(file, f"mod/{name}", part)
    return path


@pytest.mark.parametrize("spatial", ["whole", "parts"])
def test_cells_of_any_modality_are_nodes_of_one_section(parts: dict[str, Any], tmp_path: Path, spatial: str) -> None:
    path = _write(parts, tmp_path / "m.h5mu", spatial)
    assert recognise(path) == "h5mu"
    with doubts_heard() as doubts:
        section = read(path, label="kind", columns=["prot:depth", "donor"], **PLACED)
    assert len(section.shapes["cell"]) == 60 and positions_um(section, "cell")[59].tolist() == [30.0, 70.0]
    for table, name in (("cell_rna", "rna"), ("cell_protein", "prot")):
        pd.testing.assert_frame_equal(section.tables[table].to_df(), parts[name].to_df(), check_names=False)
    assert (
        section.shapes["cell"]["label"].isna().sum() == 10 and section.shapes["cell"]["prot:depth"].isna().sum() == 10
    )
    assert sum("50 of 60 cell nodes measured" in one for one in doubts) == 2


def test_a_sample_without_positions_is_dissociated(parts: dict[str, Any], tmp_path: Path) -> None:
    path = _write(parts, tmp_path / "m.h5mu")
    with pytest.raises(ReadError, match=r"no positions named 'spatial'.*say `dissociated: true`"):
        read(path, **PLACED)
    section = read(path, dissociated=True, keep={"kind": "x"})
    assert len(section.shapes["cell"]) == 25 and section.tables["cell_protein"].n_obs == 20


def test_modalities_are_told_by_name_or_named(parts: dict[str, Any], tmp_path: Path) -> None:
    other = {"gex": parts["rna"], "surface": parts["prot"]}
    path = _write(other, tmp_path / "m.h5mu")
    with doubts_heard() as doubts:
        section = read(path, dissociated=True)
    assert list(section.tables) == ["cell_rna"] and any("surface left out" in one for one in doubts)
    named = read(path, dissociated=True, modalities={"rna": "gex", "protein": "surface"})
    assert set(named.tables) == {"cell_rna", "cell_protein"}
    with pytest.raises(ReadError, match=r"no modality named 'surfaces'; did you mean 'surface'"):
        read(path, dissociated=True, modalities={"rna": "gex", "protein": "surfaces"})
    with pytest.raises(ReadError, match=r"expected one of RNA, found surface; say which is RNA, as `modalities:"):
        read(_write({"surface": parts["prot"]}, tmp_path / "s.h5mu"), dissociated=True)


def test_values_that_are_no_counts_are_refused_and_a_layer_holds_them(parts: dict[str, Any], tmp_path: Path) -> None:
    for part in parts.values():
        part.layers["counts"] = part.X.copy()
        part.X = part.X.log1p()
    path = _write(parts, tmp_path / "m.h5mu")
    with pytest.raises(ReadError, match=r"mod/prot: expected raw counts.*or leave it out by `modalities:`"):
        read(path, dissociated=True)
    section = read(path, dissociated=True, layer="counts")
    assert section.tables["cell_protein"].X.sum() == parts["prot"].layers["counts"].sum()
    section = read(path, dissociated=True, values="log", modalities={"rna": "rna"})
    assert list(section.tables) == ["cell_log_expression"]


@pytest.mark.parametrize("place", ["obs", "mod/prot"])
def test_cells_that_stand_twice_are_refused(parts: dict[str, Any], tmp_path: Path, place: str) -> None:
    path = _write(parts, tmp_path / "m.h5mu")
    with h5py.File(path, "r+") as file:
        index = file[f"{place}/obs/_index" if place != "obs" else "obs/_index"]
        index[1] = index[0]
    with pytest.raises(ReadError, match=rf"m.h5mu · {place}: expected unique names, found cell 'c\d+' twice"):
        read(path, dissociated=True)
