"""Kinds of faults that outsiders ran into, in deliveries of vendors: two and more further cases a kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from imagecodecs import png_encode
from scipy import sparse
from scipy.io import mmwrite

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import positions_um
from tests.vendor_folders import octagons, some_cells, write_10x_matrix, write_cosmx, write_mcmicro

Say = Callable[..., tuple[int, str, str]]
N, GENES = 72, [f"GENE{i}" for i in range(30)]
MPP = 0.5
PLACED: dict[str, Any] = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 8.0}


def _said(path: Path, **options: Any) -> tuple[Any, str]:
    with doubts_heard() as doubts:
        section = read(path, **options)
    return section, "\n".join(doubts)


def _table(genes: list[str] = GENES, seed: int = 0) -> Any:
    counts = np.random.default_rng(seed).poisson(3.0, (N, len(genes))).astype(np.float32)
    obs = pd.DataFrame(index=[f"c{i}x" for i in range(N)])
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))
    table.obsm["spatial"] = 10.0 * np.column_stack([np.arange(N) % 9, np.arange(N) // 9])
    return table


def _visium(folder: Path, **changed: Any) -> Path:
    """A run of Space Ranger on 72 spots at 0.5 µm a pixel, its picture as large as they reach and 150 µm beyond."""
    rows, columns = np.divmod(np.arange(N), 9)
    columns = 2 * columns + rows % 2
    xy = np.column_stack([50 * columns, 50 * np.sqrt(3) * rows]) / MPP + 300
    barcodes = ["".join("ACGT"[i // 4**j % 4] for j in range(16)) + "-1" for i in range(N)]
    (folder / "spatial").mkdir(parents=True)
    spots = pd.DataFrame({"barcode": barcodes, "in_tissue": 1, "array_row": rows, "array_col": columns})
    spots["pxl_row_in_fullres"], spots["pxl_col_in_fullres"] = xy[:, 1], xy[:, 0]
    spots.assign(**changed).to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    size = (xy.max(axis=0) + 300).astype(int)
    factors = {"spot_diameter_fullres": 65 / MPP, "tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.05}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    for kind, scale in (("hires", 0.2), ("lowres", 0.05)):
        picture = np.full((*np.rint(size[::-1] * scale).astype(int), 3), 230, np.uint8)
        (folder / "spatial" / f"tissue_{kind}_image.png").write_bytes(png_encode(picture))
    counts = np.random.default_rng(0).poisson(2.0, (N, 30))
    write_10x_matrix(folder / "filtered_feature_bc_matrix.h5", barcodes, GENES, counts, ["Gene Expression"] * 30)
    return folder


def _factors(folder: Path, **changed: float) -> None:
    path = folder / "spatial" / "scalefactors_json.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def _xenium(folder: Path, prefix: str = "") -> Path:
    """A Xenium run of two pieces of tissue, with outlines, transcripts and a picture; a sample's name before each."""
    folder.mkdir()
    cells = some_cells()
    names = [f"aaaa{i:04d}-1" for i in range(len(cells))]
    corners = pd.DataFrame(octagons(cells).reshape(-1, 2), columns=["vertex_x", "vertex_y"])
    corners["cell_id"] = np.repeat(names, 8)
    place = dict(zip(("x_centroid", "y_centroid"), cells.xy_um.T, strict=True))
    table = pd.DataFrame({"cell_id": names, **place, "piece": np.where(cells.field_number == 1, "L", "R")})
    molecules = pd.DataFrame({"x_location": cells.xy_um[:, 0], "y_location": cells.xy_um[:, 1], "qv": 40.0})
    molecules["feature_name"], molecules["cell_id"] = cells.genes[0], names
    for name, one in (("cells", table), ("cell_boundaries", corners), ("transcripts", molecules)):
        one.to_parquet(folder / f"{prefix}{name}.parquet")
    kinds = ["Gene Expression"] * len(cells.genes)
    write_10x_matrix(folder / f"{prefix}cell_feature_matrix.h5", names, list(cells.genes), cells.counts, kinds)
    (folder / f"{prefix}experiment.xenium").write_text(json.dumps({"pixel_size": 0.425}))
    side = int(cells.xy_um.max() / 0.425) + 50
    size = {"axes": "YX", "PhysicalSizeX": 0.425, "PhysicalSizeY": 0.425}
    tifffile.imwrite(folder / "morphology_focus.ome.tif", np.full((side, side), 9, np.uint8), metadata=size, ome=True)
    return folder


# 1. A guard in one place of several alike.


def test_controls_have_many_names(tmp_path: Path) -> None:
    named = [
        "NegCtrl1",
        "neg_control_2",
        "Neg_Probe_1",
        "NEG_A",
        "unassigned_1",
        "Unassigned",
        "ERCC-00002",
        "BLANK_0001",
    ]
    _table([*GENES, *named, "NEGR1", "BLNK", "ERCC1"]).write_h5ad(tmp_path / "t.h5ad")
    section, _ = _said(tmp_path / "t.h5ad", **PLACED)
    assert list(section["cell_rna"].var_names) == [*GENES, "NEGR1", "BLNK", "ERCC1"]


def test_annotation_has_many_names(tmp_path: Path) -> None:
    named = ["nUMI", "transcript_count", "nucleus_count", "cluster_id", "leiden_0.5", "row", "imagecol", "UMAP_1"]
    whole = _table([*GENES, *named]).to_df().astype(int)
    whole[["x", "y"]] = _table().obsm["spatial"]
    whole.to_csv(tmp_path / "t.csv", index_label="barcode")
    section, said = _said(tmp_path / "t.csv", **PLACED)
    assert list(section["cell_rna"].var_names) == GENES and "8 columns left out" in said


def test_rows_without_a_count_are_doubted_in_every_reader(tmp_path: Path) -> None:
    table = _table()
    x = table.X.toarray()
    x[:9] = 0
    table.X = sparse.csr_matrix(x)
    table.write_h5ad(tmp_path / "t.h5ad")
    assert "9 of 72 rows without a single count" in _said(tmp_path / "t.h5ad", **PLACED)[1]
    assert "single count" not in _said(_visium(tmp_path / "v"))[1]


# 2. Two statements in one delivery, never compared.


def test_a_scale_that_the_array_contradicts_is_doubted(tmp_path: Path) -> None:
    path = _visium(tmp_path / "v")
    assert "expected 0.5 µm, as the array of the spots tells, found 1 µm" in _said(path, um_per_unit=1.0)[1]
    assert not _said(path, um_per_unit=0.5)[1] and not _said(path)[1]
    _factors(path, spot_diameter_fullres=260.0)
    assert "expected 0.25 µm, as spot_diameter_fullres tells" in _said(path)[1]


def test_bins_of_another_size_than_the_factors_say_are_doubted(tmp_path: Path) -> None:
    row, column = np.divmod(np.arange(N), 9)
    place = {"pxl_row_in_fullres": 16 * row + 300, "pxl_col_in_fullres": 16 * column + 300}
    path = _visium(tmp_path / "v", array_row=row, array_col=column, **place)
    _factors(path, bin_size_um=8.0, microns_per_pixel=0.5)
    assert not _said(path, image="none")[1]
    _factors(path, bin_size_um=16.0)
    assert "expected 1 µm, as bin_size_um tells, found 0.5 µm" in _said(path, image="none")[1]


def test_a_pixel_size_beside_that_of_the_file_is_doubted(tmp_path: Path) -> None:
    size = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "s.ome.tif", np.zeros((64, 64), np.uint8), metadata=size, ome=True)
    assert "expected 0.5 µm, as the file states, found 0.25 µm" in _said(tmp_path / "s.ome.tif", mpp=0.25)[1]
    assert not _said(tmp_path / "s.ome.tif", mpp=0.5)[1]
    path = write_mcmicro(some_cells(), tmp_path / "m")
    assert "expected 0.65 µm, as the registered picture tells" in _said(path, um_per_unit=1.0)[1]


def test_a_scale_that_is_given_wins_over_an_array_that_is_none(tmp_path: Path) -> None:
    table = _table()
    table.obs["array_row"], table.obs["array_col"] = np.arange(N) // 9, (np.arange(N) * 7) % 9
    table.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"off their array|equal axes"):
        read(tmp_path / "t.h5ad", level="patch", diameter_um=8.0)
    section, said = _said(tmp_path / "t.h5ad", level="patch", diameter_um=8.0, um_per_unit=1.0)
    assert len(section.shapes["patch"]) == N and ("off their array" in said or "equal axes" in said)


def test_spots_of_visium_in_any_table_are_as_far_apart_as_visiums(tmp_path: Path) -> None:
    table = _table()
    table.obsm["spatial"] = table.obsm["spatial"] * 13.8
    table.uns["spatial"] = {"lib": {"scalefactors": {"spot_diameter_fullres": 89.7}}}
    table.write_h5ad(tmp_path / "t.h5ad")
    asked = {"level": "patch", "diameter_um": 55.0}
    said = _said(tmp_path / "t.h5ad", um_per_unit=1.0, **asked)[1]
    assert "found spots 138 µm apart" in said and "`um_per_unit:` times 0.7246 is right" in said
    assert "expected 0.7246 µm, as spot_diameter_fullres tells" in said
    assert not _said(tmp_path / "t.h5ad", um_per_unit=0.7246, **asked)[1]


def test_an_image_of_another_size_than_the_runs_picture_is_doubted(tmp_path: Path) -> None:
    path = _visium(tmp_path / "v")
    down, across = (5 * n for n in read(path).images["slide"].shape[1:])
    for name, shape in (("full", (down, across)), ("twice", (2 * down, 2 * across)), ("turned", (across, down))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((*shape, 3), 230, np.uint8), photometric="rgb")
    assert not _said(path, slide=tmp_path / "full.tif")[1]
    for name in ("twice", "turned"):
        assert f"by {name}.tif pixels; is one of another run" in _said(path, slide=tmp_path / f"{name}.tif")[1]
    _factors(path, tissue_hires_scalef=0.15)
    assert "by tissue_lowres_image.png pixels" in _said(path)[1]


@pytest.mark.parametrize(
    ("mpp", "told"), [(0.25, "of the nodes on the slide"), (MPP, ""), (1.0, "of the slide, of 1 µm")]
)
def test_a_pixel_size_that_the_spots_contradict_is_doubted(mpp: float, told: str, tmp_path: Path, say: Say) -> None:
    down, across = (5 * n for n in read(_visium(tmp_path / "v")).images["slide"].shape[1:])
    tifffile.imwrite(tmp_path / "s.tif", np.full((down, across, 3), 230, np.uint8), photometric="rgb")
    sources = f"[{{path: ./v, image: none}}, {{path: ./s.tif, mpp: {mpp}}}]"
    (tmp_path / "t.yaml").write_text(f"task: {{name: t, sections: [{{name: s, sources: {sources}}}]}}\n")
    assert say("build", tmp_path / "t.yaml", "--out", tmp_path / "g.zarr")[0] == 0
    doubts = json.loads(say("inspect", tmp_path / "g.zarr", "--json")[1])["doubts"]
    assert any("no `task.features`" in one for one in doubts)  # a slide without a reader's name is one all the same
    placed = [one for one in doubts if "patch and slide" in one]
    assert len(placed) == bool(told) and all(told in one for one in placed)


@pytest.mark.parametrize("write", [_xenium, lambda folder: write_cosmx(some_cells(), folder)])
def test_transcripts_of_another_frame_than_their_cells_are_doubted(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "o")
    assert "from their cells" not in _said(path)[1]
    file = next(p for p in path.iterdir() if p.name.startswith("transcripts") or "tx_file" in p.name)
    reading, writing = (pd.read_parquet, "to_parquet") if file.suffix == ".parquet" else (pd.read_csv, "to_csv")
    table = reading(file)
    x = next(name for name in table if name.startswith("x_"))
    getattr(table.assign(**{x: table[x] / 0.2125}), writing)(file, index=False)
    assert "µm from their cells, at the median" in _said(path)[1]


def test_outlines_and_transcripts_of_other_cells_are_doubted(tmp_path: Path) -> None:
    path = _xenium(tmp_path / "o")
    for name in ("cell_boundaries", "transcripts"):
        table = pd.read_parquet(path / f"{name}.parquet")
        table.assign(cell_id="z" + table["cell_id"]).to_parquet(path / f"{name}.parquet")
    said = _said(path)[1]
    assert "outlines of 0 of 80 nodes, the first of 'zaaaa0000-1'" in said
    assert "expected those of the list of cells, such as 'aaaa0000-1', found cells such as 'zaaaa0000-1'" in said


def test_areas_in_two_units_tell_the_scale_of_cosmx(tmp_path: Path) -> None:
    path = write_cosmx(some_cells(), tmp_path / "o")
    cells = pd.read_csv(path / "S1_metadata_file.csv")
    cells.assign(**{"Area.um2": cells["Area"] * 0.18**2}).to_csv(path / "S1_metadata_file.csv", index=False)
    assert "expected 0.18 µm, as Area.um2 beside Area tells" in _said(path)[1]
    assert "0.1203 µm, as S1_fov_positions_file.csv tells" in _said(path, um_per_unit=0.18)[1]


# 3. Names with a structure, read by a fixed spelling.


def test_xenium_as_geo_packs_it_is_read(tmp_path: Path) -> None:
    path = _xenium(tmp_path / "o", "GSM1234567_S1_")
    assert recognise(path) == "xenium" and len(read(path).shapes["cell_outlines"]) == 80


def test_folders_of_visium_as_they_are_unpacked_are_read(tmp_path: Path) -> None:
    path = _visium(tmp_path / "v")
    (path / "spatial").rename(path / "GSM1_S1_spatial")
    (path / "._filtered_feature_bc_matrix.h5").write_bytes(b"\0\5\x16\7")  # what macOS puts beside each file
    (path / "filtered_feature_bc_matrix.h5").rename(path / "GSM1_S1_filtered_feature_bc_matrix.h5")
    assert read(path)["patch_rna"].shape == (N, 30)
    (path / "GSM1_S1_spatial").rename(path / "inner")
    (path / "spatial").mkdir()
    (path / "inner").rename(path / "spatial" / "spatial")
    assert read(path)["patch_rna"].shape == (N, 30)


@pytest.mark.parametrize("written", ["plain", "cells as rows", "headers", "symbols first"])
def test_matrices_as_r_writes_them_are_read_alike(written: str, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (30, N))
    mmwrite(tmp_path / "matrix.mtx", sparse.csc_matrix(counts.T if written == "cells as rows" else counts))
    features = pd.DataFrame({"id": [f"ENSG{i:011d}" for i in range(30)], "name": GENES})
    features = features[["name", "id"]] if written == "symbols first" else features
    features.to_csv(tmp_path / "genes.tsv", sep="\t", index=False, header=written == "headers")
    barcodes = pd.DataFrame({"x": [f"c{i}" for i in range(N)]})
    barcodes.to_csv(tmp_path / "barcodes.tsv", index=False, header=written == "headers")
    table = read(tmp_path)["cell_rna"]
    assert table.var.loc["GENE3", "gene_id"] == "ENSG00000000003"
    np.testing.assert_array_equal(table.X.toarray(), counts.T)


def test_loom_as_scanpy_writes_it_is_read(tmp_path: Path) -> None:
    table = _table()
    with h5py.File(tmp_path / "t.loom", "w") as file:
        file["matrix"] = table.X.toarray().T
        file["col_attrs/obs_names"], file["row_attrs/var_names"] = np.array(table.obs_names, "S"), np.array(GENES, "S")
        file["col_attrs/x"], file["col_attrs/y"] = table.obsm["spatial"].T
    section = read(tmp_path / "t.loom", **PLACED)
    assert section["cell_rna"].obs_names.tolist() == table.obs_names.tolist()
    np.testing.assert_array_equal(positions_um(section, "cell"), table.obsm["spatial"])


def test_symbols_that_a_spreadsheet_made_dates_are_doubted(tmp_path: Path) -> None:
    _table([*GENES[:27], "1-Mar", "Sep-07", "2001-12-01"]).write_h5ad(tmp_path / "t.h5ad")
    assert "3 genes named like dates ('1-Mar', 'Sep-07', '2001-12-01')" in _said(tmp_path / "t.h5ad", **PLACED)[1]
