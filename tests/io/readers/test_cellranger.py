"""Cell Ranger's matrices as dissociated samples: HDF5 and folder, antibodies, libraries, and metadata beside them."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, reader_for, recognise

CELLS = [f"{'ACGT'[i % 4]}{'ACGT'[i // 4 % 4]}{'ACGT'[i // 16]}TTTT-{1 + i % 2}" for i in range(40)]
GENES = [f"GENE{i}" for i in range(8)]
KINDS = ["Gene Expression"] * 6 + ["Antibody Capture"] * 2


@pytest.fixture
def counts() -> np.ndarray:
    """Counts (cell, feature)."""
    return np.random.default_rng(0).poisson(2.0, (40, 8))


def _h5(counts: np.ndarray, path: Path) -> Path:
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        for name, values in (("data", matrix.data), ("indices", matrix.indices), ("indptr", matrix.indptr)):
            file[f"matrix/{name}"] = values
        file["matrix/shape"] = np.array(counts.T.shape)
        file["matrix/barcodes"] = np.array(CELLS, "S")
        for name, values in (("id", [f"ENSG{i:011d}" for i in range(8)]), ("name", GENES), ("feature_type", KINDS)):
            file[f"matrix/features/{name}"] = np.array(values, "S")
    return path


def _folder(counts: np.ndarray, path: Path, prefix: str = "") -> Path:
    path.mkdir()
    mmwrite(path / "m.mtx", sparse.csc_matrix(counts.T))
    features = pd.DataFrame({"id": [f"ENSG{i:011d}" for i in range(8)], "name": GENES, "kind": KINDS})
    for name, text in {
        "matrix.mtx": (path / "m.mtx").read_text(),
        "features.tsv": features.to_csv(sep="\t", header=False, index=False),
        "barcodes.tsv": "\n".join(CELLS),
    }.items():
        (path / f"{prefix}{name}.gz").write_bytes(gzip.compress(text.encode()))
    (path / "m.mtx").unlink()
    return path


@pytest.mark.parametrize("kind", ["h5", "folder", "geo"])
def test_rna_and_antibodies_of_cells_without_positions(counts: np.ndarray, tmp_path: Path, kind: str) -> None:
    path = _h5(counts, tmp_path / "GSM1_filtered_feature_bc_matrix.h5") if kind == "h5" else None
    path = path or _folder(counts, tmp_path / "filtered_feature_bc_matrix", "GSM1_S1_" if kind == "geo" else "")
    assert recognise(path) == "cellranger"
    section = read(path, label="library")
    np.testing.assert_array_equal(section.tables["cell_rna"].X.toarray(), counts[:, :6])
    np.testing.assert_array_equal(section.tables["cell_protein"].X.toarray(), counts[:, 6:])
    assert section.shapes["cell"]["label"].value_counts().to_dict() == {"1": 20, "2": 20}
    parts = reader_for(path).read_by(path, ("library",))
    assert sorted(parts) == ["1", "2"] and parts["2"].tables["cell_rna"].X.sum() == counts[1::2, :6].sum()


def test_what_is_known_of_cells_is_joined_by_barcode(counts: np.ndarray, tmp_path: Path) -> None:
    path = _h5(counts, tmp_path / "m.h5")
    known = pd.DataFrame({"barcode": CELLS[::-1][:38], "guide": [f"g{i}" for i in range(38)]})
    known.to_csv(tmp_path / "cells.csv", index=False)
    section = read(path, metadata=tmp_path / "cells.csv", columns=["guide"])
    assert section.shapes["cell"]["guide"].tolist()[::-1][:38] == known["guide"].tolist()
    assert len(read(path, metadata=tmp_path / "cells.csv", keep={"guide": ["g0", "g5"]}).shapes["cell"]) == 2
    known.assign(barcode=known["barcode"].str.removesuffix("-1").str.removesuffix("-2")).to_csv(
        tmp_path / "bare.csv", index=False
    )
    with pytest.raises(ReadError, match=r"one row a cell|in the matrix"):
        read(path, metadata=tmp_path / "bare.csv")


def test_a_section_of_spots_is_not_taken_for_cells(counts: np.ndarray, tmp_path: Path) -> None:
    path = _folder(counts, tmp_path / "visium")
    (path / "tissue_positions_list.csv").write_text("A-1,1,0,0,10,10\n")
    assert recognise(path) == "spaceranger"


@pytest.mark.parametrize(("name", "beside"), [("m.h5", "spatial"), ("cell_feature_matrix.h5", "cells.parquet")])
def test_a_matrix_beside_its_positions_is_not_taken_for_cells(
    counts: np.ndarray, tmp_path: Path, name: str, beside: str
) -> None:
    path = _h5(counts, tmp_path / name)
    (tmp_path / beside).mkdir()
    with pytest.raises(ReadError, match=r"no reader recognises it"):
        recognise(path)
    assert read(path, reader="cellranger").tables["cell_rna"].n_obs == 40
