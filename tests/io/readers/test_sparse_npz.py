"""Sparse matrices of scipy with names beside them, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise

COUNTS = np.array([[1, 0, 3], [0, 2, 0]], np.int64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two genes of three cells, genes as rows."""
    sparse.save_npz(tmp_path / "counts.npz", sparse.csr_matrix(COUNTS))
    (tmp_path / "genes.txt").write_text("A\nB\n")
    (tmp_path / "cells.csv").write_text("barcode,kind\nc0,x\nc1,y\nc2,x\n")
    return tmp_path


def options(folder: Path, **more: Any) -> dict[str, Any]:
    named = {"features": folder / "genes.txt", "cells": folder / "cells.csv"}
    return {"reader": "sparse_npz", **named, "transpose": True, "dissociated": True, **more}


def test_rows_are_named_by_tables_beside(folder: Path) -> None:
    assert recognise(folder / "counts.npz") == "sparse_npz"
    section = read(folder / "counts.npz", **options(folder, label="kind"))
    assert section.tables["cell_rna"].to_df().T.to_numpy().tolist() == COUNTS.tolist()
    assert section.shapes["cell"].index.tolist() == ["c0", "c1", "c2"]
    assert section.shapes["cell"]["label"].tolist() == ["x", "y", "x"]


def test_other_modalities_are_read_as_such(folder: Path) -> None:
    section = read(folder / "counts.npz", **options(folder, modality="atac"))
    assert section.tables["cell_atac"].n_vars == 2 and "cell_rna" not in section.tables


def test_names_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ReadError, match=r"cells.csv.*found 3 names; .*`transpose: true`"):
        read(folder / "counts.npz", **options(folder, transpose=False))
    (folder / "genes.txt").write_text("A\n")
    with pytest.raises(ReadError, match=r"genes.txt.*expected 2, one of each of the features.*found 1 names"):
        read(folder / "counts.npz", **options(folder))


def test_without_positions_it_has_to_be_said(folder: Path) -> None:
    with pytest.raises(ReadError, match="dissociated: true"):
        read(
            folder / "counts.npz", **options(folder, dissociated=False, level="cell", um_per_unit=1.0, diameter_um=1.0)
        )


def test_damage_and_pickles_are_refused(folder: Path) -> None:
    path = folder / "counts.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="a damaged matrix"):
        read(path, **options(folder))
    np.savez(path, format="csr", shape=COUNTS.shape, data=np.array([{}], object), indices=[0], indptr=[0, 1, 1])
    with pytest.raises(ReadError, match="without pickle"):
        read(path, **options(folder))
    np.savez(path, format=b"csr", shape=COUNTS.shape, data=[1], indices=[9], indptr=[0, 1, 1])
    with pytest.raises(ReadError):
        read(path, **options(folder))
