"""10x count matrices: every real one reads; shapes stored as floats; damage is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.matrices import read_10x_h5, read_mtx_folder

# path under vendor-formats/ → (shape, sum of counts)
REAL = {
    "spaceranger-visium/1.0.0/filtered_feature_bc_matrix.h5": ((100, 100), 932),
    "spaceranger-visium/2.1.0/raw_probe_bc_matrix.h5": ((4987, 1000), None),
    "spaceranger-visiumio/10xVisium/section1/outs/raw_feature_bc_matrix.h5": ((50, 49), 607),
    "spaceranger-visiumio/binned_outputs/square_002um/filtered_feature_bc_matrix.h5": ((10, 10), 0),
    "mini-imaging/Xenium_small/cell_feature_matrix.h5": ((6, 4), 21),
    "spaceranger-visiumio/10xVisium/section1/outs/raw_feature_bc_matrix": ((50, 50), 682),
    "spaceranger-visiumio/binned_outputs/square_002um/filtered_feature_bc_matrix": ((10, 10), 0),
    "spaceranger-sfe/sample01/outs/filtered_feature_bc_matrix": ((12, 5), 2951),
}


@pytest.mark.parametrize("name", REAL)
def test_real_matrix(data_dir: Path, name: str) -> None:
    path = data_dir / "vendor-formats" / name
    table = read_10x_h5(path) if path.suffix == ".h5" else read_mtx_folder(path)
    shape, total = REAL[name]
    assert (table.shape, table.X.format, table.X.dtype) == (shape, "csr", np.float32)
    assert total is None or table.X.sum() == total
    assert {"gene_ids"} <= set(table.var.columns) and isinstance(table.var_names[0], str)


def test_values_of_the_matrix_whose_shape_is_stored_as_floats(data_dir: Path) -> None:
    table = read_10x_h5(data_dir / "vendor-formats/mini-imaging/Xenium_small/cell_feature_matrix.h5")
    assert list(table.var_names) == ["ABCC11", "ACTA2", "ACTG2", "ADAM9"]
    assert table.obs_names[0] == "1"
    np.testing.assert_array_equal(table.X[0].toarray()[0], [0, 1, 2, 3])


def test_damage_is_named(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(ReadError, match=r"cut\.h5: a damaged HDF5 file"):
        read_10x_h5(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = [1]
    with pytest.raises(ReadError, match=r"expected a group 'matrix', found groups \['X'\]"):
        read_10x_h5(tmp_path / "other.h5")
    shutil.copyfile(data_dir / "vendor-formats/mini-imaging/Xenium_small/cell_feature_matrix.h5", tmp_path / "bad.h5")
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        file["matrix/indices"][0] = 9
    with pytest.raises(ReadError, match="indices that do not fit"):
        read_10x_h5(tmp_path / "bad.h5")


def test_missing_part_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "barcodes.tsv").write_text("a\n")
    with pytest.raises(ReadError, match=r"expected matrix\.mtx or matrix\.mtx\.gz, found barcodes\.tsv"):
        read_mtx_folder(tmp_path)
