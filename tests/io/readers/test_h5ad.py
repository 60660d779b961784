"""AnnData files: the cortex section, logarithms, and content that must not be opened."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.frame import affine_of, diameters_um, native_positions, positions_um
from aivc_graph.tissue.schema import spacing_um

OPTIONS: dict[str, Any] = {"level": "cell", "um_per_unit": 2.0, "diameter_um": 8.0}


@pytest.fixture
def table() -> Any:
    """Nine cells 5 units apart with two genes."""
    x, y = (5.0 * v.ravel() for v in np.meshgrid(np.arange(3), np.arange(3)))
    obs = pd.DataFrame({"kind": list("aabbccddd"), "size": 30.0}, index=[f"c{i}" for i in range(9)])
    counts = sparse.csr_matrix(np.column_stack([np.arange(9), np.arange(9) % 2]).astype(np.float32))
    var = pd.DataFrame({"symbol": ["AAA", "BBB"]}, index=["ENSG00000000001.4", "ENSG00000000002.12"])
    return anndata.AnnData(counts, obs=obs, var=var, obsm={"spatial": np.column_stack([x, y])})


def _write(table: Any, path: Path) -> Path:
    table.write_h5ad(path)
    return path


def test_the_cortex_section_is_placed_by_its_array(data_dir: Path) -> None:
    section = read(
        data_dir / "dlpfc-visium" / "151510" / "dlpfc_151510_500genes.h5ad",
        level="patch",
        diameter_um=55,
        symbols="gene_name",
        label="layer",
        columns=["nuclei_count"],
    )
    assert section.tables["patch_rna"].shape == (4634, 500)
    assert affine_of(section, "patch")[0, 0] == pytest.approx(100 / 137, rel=0.02)
    assert spacing_um(positions_um(section, "patch")) == pytest.approx(100, rel=0.01)
    patches = section.shapes["patch"]
    assert patches["label"].value_counts()["L3"] == 1774 and patches["label"].isna().sum() == 39
    assert patches["nuclei_count"].max() == 13
    assert section.tables["patch_rna"].var.loc["ISG15", "gene_id"] == "ENSG00000187608"


def test_rows_keep_their_place(table: Any, tmp_path: Path) -> None:
    section = read(_write(table, tmp_path / "t.h5ad"), label="kind", symbols="symbol", columns=["size"], **OPTIONS)
    assert recognise(tmp_path / "t.h5ad") == "h5ad"
    assert native_positions(section, "cell")[5] == pytest.approx([10, 5])
    assert section.tables["cell_rna"].to_df()["AAA"].tolist() == list(range(9))
    assert section.shapes["cell"]["label"].tolist() == list("aabbccddd")
    options = {k: v for k, v in OPTIONS.items() if k != "diameter_um"}
    assert diameters_um(read(tmp_path / "t.h5ad", area="size", **options), "cell") == pytest.approx(6.18, abs=0.01)


def test_versions_are_stripped_and_recorded(table: Any, tmp_path: Path) -> None:
    found = read(_write(table, tmp_path / "t.h5ad"), **OPTIONS).tables["cell_rna"]
    assert list(found.var_names) == list(found.var["gene_id"]) == ["ENSG00000000001", "ENSG00000000002"]
    assert list(found.var["gene_version"]) == ["4", "12"] and found.uns["genes"]["versions_stripped"] == 2


def test_logarithms_are_refused_and_the_layer_named(table: Any, tmp_path: Path) -> None:
    table.layers["counts"] = table.X.copy()
    table.X = table.X.log1p()
    path = _write(table, tmp_path / "t.h5ad")
    with pytest.raises(
        ReadError, match=r"12 values that are not whole, first in 'c1', 'ENSG.*`layer:` \(layers: counts\)"
    ):
        read(path, **OPTIONS)
    assert read(path, layer="counts", **OPTIONS).tables["cell_rna"].X.sum() == 40
    with pytest.raises(ReadError, match=r"no layer named 'count'; did you mean 'counts'"):
        read(path, layer="count", **OPTIONS)


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.nan, "values that are NaN or infinite"), (np.inf, "values that are NaN"), (-3.0, "negative values")],
)
def test_bad_counts_name_gene_and_cell(table: Any, tmp_path: Path, value: float, found: str) -> None:
    table.X[4, 0] = value
    with pytest.raises(ReadError, match=f"1 {found}.*first in 'c4', 'ENSG00000000001.4'"):
        read(_write(table, tmp_path / "t.h5ad"), **OPTIONS)


def test_missing_keys_name_the_nearest(table: Any, tmp_path: Path) -> None:
    path = _write(table, tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"obsm: no positions named 'spatail'; did you mean 'spatial'"):
        read(path, spatial_key="spatail", **OPTIONS)
    with pytest.raises(ReadError, match=r"obs: no column named 'kinds'; did you mean 'kind'"):
        read(path, label="kinds", **OPTIONS)
    with pytest.raises(ReadError, match=r"var: no column named 'symbols'; did you mean 'symbol'"):
        read(path, symbols="symbols", **OPTIONS)
    with pytest.raises(ReadError, match=r"neighbours are 5 units apart\); give `um_per_unit:`"):
        read(path, level="cell", diameter_um=8)


def test_duplicate_rows_no_row_and_one_row(table: Any, tmp_path: Path) -> None:
    assert read(_write(table[:1].copy(), tmp_path / "one.h5ad"), **OPTIONS).tables["cell_rna"].n_obs == 1
    with pytest.raises(TissueError, match=r"no node at all"):
        read(_write(table[:0].copy(), tmp_path / "none.h5ad"), **OPTIONS)
    path = _write(table, tmp_path / "twice.h5ad")
    with h5py.File(path, "r+") as file:
        file["obs/_index"][1] = "c0"
    with pytest.raises(TissueError, match=r"1 duplicate barcodes, first 'c0'"):
        read(path, **OPTIONS)


def test_mixed_organisms_are_refused_with_a_table(table: Any, tmp_path: Path) -> None:
    table.var_names = ["GRCh38_AAA", "mm10___Bbb"]
    path = _write(table, tmp_path / "t.h5ad")
    with pytest.raises(
        ReadError, match=r"(?s)genes of 2 organisms.*human +1 genes +90.0% of the counts\n +mouse +1 genes"
    ):
        read(path, **OPTIONS)
    for organism, names in (("human", ["AAA"]), ("mm10", ["Bbb"])):
        assert list(read(path, organism=organism, **OPTIONS).tables["cell_rna"].var_names) == names
    with pytest.raises(ReadError, match=r"organism: expected rat, found genes of human, mouse"):
        read(path, organism="rat", **OPTIONS)


@pytest.mark.parametrize("place", ["uns/model", "obs/secret"])
def test_pickles_are_refused_by_content(table: Any, tmp_path: Path, place: str) -> None:
    path = _write(table, tmp_path / "t.h5ad")
    with h5py.File(path, "r+") as file:
        file[place] = np.frombuffer(pickle.dumps({"a": [1, 2, 3]}), dtype=np.uint8)
    with pytest.raises(ReadError, match=rf"t.h5ad · /{place}: expected numbers or text, found a pickle"):
        read(path, **OPTIONS)


def test_opaque_values_and_links_are_refused(table: Any, tmp_path: Path) -> None:
    for name, kind in (("opaque", np.dtype("V8")), ("reference", h5py.ref_dtype)):
        path = _write(table, tmp_path / f"{name}.h5ad")
        with h5py.File(path, "r+") as file:
            file.create_dataset("uns/thing", (3,), dtype=kind)
        with pytest.raises(ReadError, match=r"uns/thing: expected numbers or text, found values of type"):
            read(path, **OPTIONS)
    path = _write(table, tmp_path / "link.h5ad")
    with h5py.File(path, "r+") as file:
        file["uns/away"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(ReadError, match=r"uns/away: expected data inside this file, found a link to another file"):
        read(path, **OPTIONS)


def test_damaged_files_are_named(table: Any, tmp_path: Path) -> None:
    path = _write(table, tmp_path / "t.h5ad")
    data = path.read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"cut.h5ad"):
        read(tmp_path / "cut.h5ad", reader="h5ad", **OPTIONS)
    with h5py.File(path, "r+") as file:
        del file["obs/_index"]
    with pytest.raises(ReadError, match=r"t.h5ad: expected an AnnData file, found a file that cannot be read"):
        read(path, **OPTIONS)


def test_amounts_that_are_no_counts_are_read_as_intensities_where_the_user_says_so(table: Any, tmp_path: Path) -> None:
    table.X = table.X * 0.37
    path = _write(table, tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"not whole.*of counts by volume or mean intensities `values: intensity`"):
        read(path, **OPTIONS)
    section = read(path, values="intensity", symbols="symbol", **OPTIONS)
    assert list(section.tables) == ["cell_intensity"]
    found = section.tables["cell_intensity"]
    np.testing.assert_allclose(found.X, table.X.toarray())
    assert list(found.var_names) == ["AAA", "BBB"]
    table.X.data[0] = np.inf
    with pytest.raises(ReadError, match="1 values that are NaN or infinite"):
        read(_write(table, path), values="intensity", **OPTIONS)


def test_counts_by_volume_of_the_preoptic_area_are_intensities(data_dir: Path) -> None:
    path = data_dir / "merfish-mouse-poa" / "merfish_mousePOA.h5ad"
    section = read(path, level="cell", um_per_unit=1.0, diameter_um=10, values="intensity", label="celltype")
    assert section.tables["cell_intensity"].shape == (6509, 155)
    assert section.shapes["cell"]["label"].value_counts()["Ependymal"] == 202
