"""GCT and GCTX: the L1000 plate, the same in HDF5, effects with gaps, counts, and damaged files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard

PLATE = "l1000-a375-kinase-dose/LJP005_A375_24H_X1_B19_test_l1000.gct"


def _gct(values: np.ndarray, path: Path, columns: dict[str, list[Any]], version: str = "#1.3") -> Path:
    """Write values (gene, profile) with symbols of the rows."""
    n_genes, n = values.shape
    lines = [version, "\t".join(map(str, [n_genes, n, *([1, len(columns)] if version == "#1.3" else [])]))]
    name = ["id", "pr_gene_symbol"] if version == "#1.3" else ["NAME", "Description"]
    lines.append("\t".join([*name, *(f"p{i}" for i in range(n))]))
    lines += ["\t".join([key, "na", *map(str, row)]) for key, row in columns.items()]
    text = [["NA" if np.isnan(v) else f"{v:g}" for v in row] for row in values]
    lines += ["\t".join([f"{i}_at", f"G{i}", *row]) for i, row in enumerate(text)]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _gctx(values: np.ndarray, path: Path, columns: dict[str, list[Any]]) -> Path:
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = values.T.astype(np.float32)
        file["0/META/ROW/id"] = np.array([f"{i}_at" for i in range(len(values))], "S")
        file["0/META/ROW/pr_gene_symbol"] = np.array([f"G{i}" for i in range(len(values))], "S")
        file["0/META/COL/id"] = np.array([f"p{i}" for i in range(values.shape[1])], "S")
        for name, column in columns.items():
            found = np.asarray(column)
            file[f"0/META/COL/{name}"] = found if found.dtype.kind in "iuf" else found.astype("S")
    return path


@pytest.fixture
def effects() -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Z-scores of nine genes in six profiles, one of them not measured."""
    values = np.random.default_rng(0).normal(size=(9, 6))
    values[2, 4] = np.nan
    return values, {"pert_iname": list("aabbcc"), "cell_id": ["A375", "MCF7"] * 3, "pert_dose": [1, 10, 1, 10, 1, -666]}


def test_the_l1000_plate_is_a_dissociated_sample(data_dir: Path) -> None:
    assert recognise(data_dir / PLATE) == "gct"
    with doubts_heard() as doubts:
        section = read(data_dir / PLATE, columns=["pert_iname", "pert_dose"], keep={"pert_type": "trt_cp"})
    table = section.tables["cell_log_expression"]
    assert table.shape == (328, 978) and any("values are taken for log" in one for one in doubts)
    assert {"PSME1", "CISD1"} <= set(table.var_names)
    assert sorted(section.shapes["cell"]["pert_dose"].unique())[:2] == [0.04, 0.12]


@pytest.mark.parametrize("write", [_gct, _gctx])
def test_effects_keep_their_gaps(write: Any, effects: tuple[np.ndarray, dict[str, list[Any]]], tmp_path: Path) -> None:
    values, columns = effects
    path = write(values, tmp_path / ("t.gct" if write is _gct else "t.gctx"), columns)
    assert recognise(path) == "gct"
    section = read(path, columns=["pert_iname", "pert_dose"], label="cell_id")
    table = section.tables["cell_effect"]
    np.testing.assert_allclose(table.X, values.T, rtol=1e-5)
    assert list(table.var_names) == [f"G{i}" for i in range(9)]
    cells = section.shapes["cell"]
    assert cells["label"].tolist() == columns["cell_id"] and cells["pert_dose"].isna().tolist() == [False] * 5 + [True]
    kept = read(path, keep={"cell_id": "A375"}).tables["cell_effect"]
    assert list(kept.obs_names) == ["p0", "p2", "p4"]


def test_a_file_of_several_lines_is_as_many_sections(
    effects: tuple[np.ndarray, dict[str, list[Any]]], tmp_path: Path
) -> None:
    from aivc_graph.io.readers.gct import GctReader

    found = GctReader().read_by(_gctx(effects[0], tmp_path / "t.gctx", effects[1]), ("cell_id",))
    assert {name: section.tables["cell_effect"].n_obs for name, section in found.items()} == {"A375": 3, "MCF7": 3}


@pytest.mark.parametrize("name", ["t.gct", "t.gct.gz"])
def test_counts_of_an_older_gct_are_counts(tmp_path: Path, name: str) -> None:
    counts = np.random.default_rng(0).poisson(40.0, (30, 4)).astype(float)
    section = read(_gct(counts, tmp_path / name, {}, "#1.2"))
    np.testing.assert_array_equal(section.tables["cell_rna"].X.toarray(), counts.T)
    assert list(section.tables["cell_rna"].var_names)[:2] == ["G0", "G1"]
    with pytest.raises(ReadError, match=r"whole numbers only|values above 25"):
        read(tmp_path / name, values="log")


def test_faults_are_named(effects: tuple[np.ndarray, dict[str, list[Any]]], tmp_path: Path) -> None:
    path = _gct(effects[0], tmp_path / "t.gct", effects[1])
    lines = path.read_text().split("\n")
    (tmp_path / "short.gct").write_text("\n".join(lines[:-2]))
    with pytest.raises(ReadError, match=r"expected 13 lines of 8 fields, as its second line says, found 11 lines of 8"):
        read(tmp_path / "short.gct")
    (tmp_path / "word.gct").write_text("\n".join([*lines[:-1], lines[-1].rsplit("\t", 1)[0] + "\tmany"]))
    with pytest.raises(ReadError, match=r"word.gct: expected a GCT or GCTX, found a damaged file"):
        read(tmp_path / "word.gct")
    with pytest.raises(ReadError, match=r"no column named 'pert_name'; did you mean 'pert_iname'"):
        read(path, label="pert_name")
    odd = _gctx(effects[0], tmp_path / "odd.gctx", effects[1])
    with h5py.File(odd, "r+") as file:
        del file["0/META/COL/cell_id"]
        file["0/META/COL/cell_id"] = np.array(["A375"], "S")
    with pytest.raises(ReadError, match=r"odd.gctx: expected a GCT or GCTX, found a damaged file"):
        read(odd)
