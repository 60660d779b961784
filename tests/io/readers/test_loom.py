"""Loom files: osmFISH, and what may be wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.frame import native_positions, positions_um
from aivc_graph.tissue.schema import spacing_um

OPTIONS: dict[str, Any] = {"um_per_unit": 2.0, "diameter_um": 8.0}


@pytest.fixture
def loom(tmp_path: Path) -> Path:
    """Nine cells 5 units apart with two genes; the last two are not valid."""
    x, y = (5.0 * v.ravel() for v in np.meshgrid(np.arange(3), np.arange(3)))
    with h5py.File(tmp_path / "t.loom", "w") as file:
        file["matrix"] = np.vstack([np.arange(9), np.arange(9) % 2])
        file["layers/log"] = np.log1p(np.vstack([np.arange(9), np.arange(9) % 2]))
        file["row_attrs/Gene"] = np.array(["A", "B"], "S")
        columns = {"X": x, "Y": y, "Valid": (np.arange(9) < 7).astype(int), "Kind": np.array(list("aabbccddd"), "S")}
        for name, values in {**columns, "CellID": np.array([f"c{i}" for i in range(9)], "S")}.items():
            file[f"col_attrs/{name}"] = values
    return tmp_path / "t.loom"


def test_osmfish_has_its_regions_and_a_scale_its_own_areas_tell(data_dir: Path) -> None:
    path = data_dir / "osmfish-mouse-ssc" / "osmFISH_SScortex_mouse_all_cells.loom"
    with h5py.File(path) as file:
        um2_per_px2 = file["col_attrs/size_um2"][()] / file["col_attrs/size_pix"][()]
    assert np.sqrt(um2_per_px2) == pytest.approx(0.065)
    section = read(path, um_per_unit=0.065, area="size_um2", label="Region", columns=["ClusterName"], keep={"Valid": 1})
    cells = section.shapes["cell"]
    assert section.tables["cell_rna"].shape == (4839, 33)
    assert cells["label"].nunique() == 11 and cells["label"].value_counts()["Layer 6"] == 1015
    assert cells["ClusterName"].nunique() == 31
    assert 8 < spacing_um(positions_um(section, "cell")) < 14


def test_columns_are_cells(loom: Path) -> None:
    section = read(loom, label="Kind", **OPTIONS)
    assert recognise(loom) == "loom"
    assert section.tables["cell_rna"].to_df()["A"].tolist() == list(range(9))
    assert native_positions(section, "cell")[5] == pytest.approx([10, 5])
    assert section.shapes["cell"]["label"].tolist() == list("aabbccddd")


def test_cells_are_kept_by_value(loom: Path) -> None:
    section = read(loom, keep={"Valid": 1, "Kind": "d"}, **OPTIONS)
    assert section.tables["cell_rna"].to_df().loc["c6"].tolist() == [6, 0]
    assert native_positions(section, "cell").tolist() == [[0, 10]]
    with pytest.raises(ReadError, match=r"found none of 9 rows with Valid = 7; check `keep:`"):
        read(loom, keep={"Valid": 7}, **OPTIONS)


def test_missing_attributes_and_layers_are_named(loom: Path) -> None:
    with pytest.raises(ReadError, match=r"col_attrs: no column named 'Kinds'; did you mean 'Kind'"):
        read(loom, label="Kinds", **OPTIONS)
    with pytest.raises(ReadError, match=r"layers/raw: no such layer; name one as `layer:` \(layers: log\)"):
        read(loom, layer="raw", **OPTIONS)
    with pytest.raises(ReadError, match=r"neighbours are 5 units apart\); give `um_per_unit:`"):
        read(loom, diameter_um=8.0)


def test_logarithms_and_bad_counts_are_refused(loom: Path) -> None:
    with pytest.raises(ReadError, match=r"12 values that are not whole, first in 'c1', 'A'"):
        read(loom, layer="log", **OPTIONS)
    with h5py.File(loom, "r+") as file:
        del file["matrix"]
        file["matrix"] = np.where(np.eye(2, 9), np.nan, 1.0)
    with pytest.raises(ReadError, match=r"2 values that are NaN or infinite, first in 'c0', 'A'"):
        read(loom, **OPTIONS)


def test_parts_that_do_not_fit_are_refused(loom: Path) -> None:
    with h5py.File(loom, "r+") as file:
        del file["row_attrs/Gene"]
        file["row_attrs/Gene"] = np.array(["A", "B", "C"], "S")
    with pytest.raises(ReadError, match=r"expected a value each, found \(2, 9\) values for 3 genes and 9 cells"):
        read(loom, **OPTIONS)
    data = loom.read_bytes()
    loom.with_name("cut.loom").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"cut.loom: a damaged HDF5 file"):
        read(loom.with_name("cut.loom"), reader="loom", **OPTIONS)


def test_values_that_are_no_numbers_are_refused(loom: Path) -> None:
    with h5py.File(loom, "r+") as file:
        del file["matrix"]
        file["matrix"] = np.full((2, 9), b"many", "S8")
    with pytest.raises(ReadError, match=r"t.loom: a damaged loom file \(could not convert"):
        read(loom, **OPTIONS)


def test_external_data_is_refused(loom: Path) -> None:
    with h5py.File(loom, "r+") as file:
        file.create_dataset("attrs/x", (4,), dtype="u1", external=[("/etc/hostname", 0, 4)])
    with pytest.raises(ReadError, match=r"attrs/x: expected data inside this file, found data kept in another file"):
        read(loom, **OPTIONS)
