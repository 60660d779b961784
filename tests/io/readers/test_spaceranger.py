"""Space Ranger in all its versions, and what is wrong with a run that was copied in part."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from aivc_graph.errors import ConfigError, ReadError, TissueError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um
from aivc_graph.tissue.schema import spacing_um

UM_PER_PX = 0.5
GENES = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004"]
SYMBOLS = ["AAA", "BBB", "CCC", "DDD"]


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    """A run of 24 spots, 20 of them on tissue, at 0.5 µm a pixel; rows of the counts are in another order."""
    folder = tmp_path / "run" / "outs"
    (folder / "spatial").mkdir(parents=True)
    spots = _spots()
    spots.to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    factors = {"spot_diameter_fullres": 130.0, "tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.1}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    for name, size in (("hires", 240), ("lowres", 120)):
        _write_png(folder / "spatial" / f"tissue_{name}_image.png", size)
    inside = spots[spots.in_tissue == 1]["barcode"].to_numpy()[::-1]
    write_h5(folder / "filtered_feature_bc_matrix.h5", _counts(inside), inside)
    every = spots["barcode"].to_numpy()
    write_h5(folder / "raw_feature_bc_matrix.h5", _counts(every) + 1, every)
    return folder


def _spots() -> pd.DataFrame:
    rows, columns = np.divmod(np.arange(24), 4)
    columns = 2 * columns + rows % 2
    return pd.DataFrame(
        {
            "barcode": [f"ACGT{i:04d}-1" for i in range(24)],
            "in_tissue": (np.arange(24) < 20).astype(int),
            "array_row": rows,
            "array_col": columns,
            "pxl_row_in_fullres": np.rint(100 + rows * 100 * np.sqrt(3) / 2 / UM_PER_PX).astype(int),
            "pxl_col_in_fullres": np.rint(80 + columns * 50 / UM_PER_PX).astype(int),
        }
    )


def _counts(barcodes: np.ndarray) -> np.ndarray:
    """Counts that tell whose they are: the spot's number, whatever the order."""
    number = np.array([int(b[4:8]) for b in barcodes])
    return np.column_stack([number, number % 3, np.zeros_like(number), np.ones_like(number)])


def write_h5(path: Path, counts: np.ndarray, barcodes: np.ndarray, **changes: Any) -> None:
    csc = sparse.csc_matrix(counts.T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        parts = {"data": csc.data, "indices": csc.indices, "indptr": csc.indptr, "shape": np.array(csc.shape)}
        names = {"id": GENES, "name": SYMBOLS, "feature_type": ["Gene Expression"] * 4, "genome": ["GRCh38"] * 4}
        for key, value in {**parts, "barcodes": barcodes.astype("S")}.items():
            group[key] = changes.get(key, value)
        for key, value in names.items():
            group[f"features/{key}"] = np.array(changes.get(key, value), dtype="S")


def _write_png(path: Path, size: int) -> None:
    from imagecodecs import png_encode

    path.write_bytes(png_encode(np.full((size, size, 3), 200, np.uint8)))


def test_a_run_is_read_in_pixels_and_placed_in_microns(outs: Path) -> None:
    section = read(outs)
    assert recognise(outs) == recognise(outs.parent) == "spaceranger"
    assert len(section.shapes["patch"]) == 20
    assert spacing_um(positions_um(section, "patch")) == pytest.approx(100, rel=0.01)
    assert diameters_um(section, "patch") == pytest.approx(55, rel=0.01)
    assert affine_of(section, "slide")[0, 0] == pytest.approx(UM_PER_PX / 0.2, rel=0.01)  # hires
    assert list(section.shapes["patch"]["array_row"][:5]) == [0, 0, 0, 0, 1]


def test_counts_join_by_barcode_whatever_their_order(outs: Path) -> None:
    table = read(outs).tables["patch_rna"]
    assert [int(b[4:8]) for b in table.obs_names] == list(table[:, "AAA"].X.toarray().ravel())
    assert list(table.var["gene_id"]) == GENES


def test_the_raw_matrix_serves_where_there_is_no_other_and_loses_spots_beside_the_tissue(outs: Path) -> None:
    assert read(outs, counts="raw").tables["patch_rna"].X.min() > 0
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    assert read(outs).tables["patch_rna"].shape == (20, 4)
    assert read(outs, only_in_tissue=False).tables["patch_rna"].shape == (24, 4)


@pytest.mark.parametrize("name", ["tissue_positions_list.csv", "tissue_positions_list.txt", "tissue_positions.csv"])
@pytest.mark.parametrize("header", [True, False])
def test_header_or_none_is_decided_by_content(outs: Path, name: str, header: bool) -> None:
    (outs / "spatial" / "tissue_positions.csv").unlink()
    _spots().to_csv(outs / "spatial" / name, index=False, header=header)
    assert list(read(outs).shapes["patch"].index) == list(_spots()["barcode"][:20])


def test_a_matrix_folder_is_read_zipped_or_not(outs: Path) -> None:
    expected = read(outs).tables["patch_rna"].to_df()
    barcodes = np.array(_spots()["barcode"][:20])
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    folder = outs / "filtered_feature_bc_matrix"
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sparse.csc_matrix(_counts(barcodes).T))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join(barcodes).encode()))
    lines = [f"{i}\t{s}\tGene Expression" for i, s in zip(GENES, SYMBOLS, strict=True)]
    (folder / "features.tsv").write_text("\n".join(lines))
    pd.testing.assert_frame_equal(read(outs).tables["patch_rna"].to_df().sort_index(), expected.sort_index())


def test_the_oldest_layout_and_float_indices_are_read(outs: Path) -> None:
    expected = read(outs).tables["patch_rna"].to_df()
    path = outs / "filtered_feature_bc_matrix.h5"
    with h5py.File(path) as file:
        parts = {key: file["matrix"][key][()] for key in ("data", "indices", "indptr", "shape", "barcodes")}
    with h5py.File(path, "w") as file:
        for key, value in parts.items():
            file[f"GRCh38/{key}"] = value if key == "barcodes" else value.astype(float)
        file["GRCh38/genes"], file["GRCh38/gene_names"] = np.array(GENES, "S"), np.array(SYMBOLS, "S")
    pd.testing.assert_frame_equal(read(outs).tables["patch_rna"].to_df(), expected)


def test_antibodies_are_protein(outs: Path) -> None:
    inside = np.array(_spots()["barcode"][:20])
    kinds = ["Gene Expression", "Gene Expression", "Gene Expression", "Antibody Capture"]
    write_h5(outs / "filtered_feature_bc_matrix.h5", _counts(inside), inside, feature_type=kinds)
    section = read(outs)
    assert list(section.tables["patch_protein"].var_names) == ["DDD"]
    assert list(section.tables["patch_rna"].var_names) == SYMBOLS[:3]


def test_symbols_twice_are_added_up_or_refused(outs: Path) -> None:
    inside = np.array(_spots()["barcode"][:20])
    names = ["AAA", "BBB", "CCC", "AAA"]
    write_h5(outs / "filtered_feature_bc_matrix.h5", _counts(inside), inside, name=names)
    table = read(outs).tables["patch_rna"]
    assert table.to_df()["AAA"].tolist() == [i + 1 for i in range(20)] and list(table.var_names) == names[:3]
    with pytest.raises(ReadError, match=r"Gene Expression: expected unique symbols.*'AAA'; set `duplicates: sum`"):
        read(outs, duplicates="refuse")


def test_images_are_a_choice(outs: Path, tmp_path: Path) -> None:
    assert affine_of(read(outs, image="lowres"), "slide")[0, 0] == pytest.approx(UM_PER_PX / 0.1, rel=0.01)
    assert not list(read(outs, image="none").images)
    _write_png(tmp_path / "full.png", 1200)
    assert affine_of(read(outs, slide=tmp_path / "full.png"), "slide")[0, 0] == pytest.approx(UM_PER_PX, rel=0.01)


def test_missing_files_are_named(outs: Path) -> None:
    (outs / "spatial" / "scalefactors_json.json").unlink()
    with pytest.raises(ReadError, match=r"scalefactors_json.json: expected tissue_hires_scalef.*`image: none`"):
        read(outs)
    assert len(read(outs, image="none").shapes["patch"]) == 20
    with pytest.raises(ReadError, match=r"expected raw_feature_bc_matrix, .h5 or folder"):
        (outs / "raw_feature_bc_matrix.h5").unlink()
        read(outs, counts="raw")
    (outs / "spatial" / "tissue_positions.csv").unlink()
    with pytest.raises(ReadError, match=r"spatial: expected tissue_positions.csv.*found no positions of spots but"):
        read(outs)


def test_columns_of_an_unknown_version_are_listed(outs: Path) -> None:
    path = outs / "spatial" / "tissue_positions.csv"
    path.write_text("spot,inside,row,col,y,x\na,1,0,0,1,1\n")
    with pytest.raises(ReadError, match=r"expected barcode, in_tissue.*found columns spot, inside, row"):
        read(outs)
    path.write_text("barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\na,1,0,zero,1,1\n")
    with pytest.raises(ReadError, match=r"column 'array_col': expected numbers, found 'zero' in row 1"):
        read(outs)


def test_no_spot_on_tissue_is_said(outs: Path) -> None:
    _spots().assign(in_tissue=0).to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(ReadError, match=r"0 of each of 24 spots; `only_in_tissue: false` takes all"):
        read(outs)


def test_one_spot_is_placed_by_its_drawn_circle(outs: Path) -> None:
    _spots()[:1].to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    write_h5(outs / "filtered_feature_bc_matrix.h5", np.ones((1, 4), int), np.array(["ACGT0000-1"]))
    section = read(outs)
    assert positions_um(section, "patch") == pytest.approx(np.array([[40, 50]]), rel=0.01)
    assert section.tables["patch_rna"].n_obs == 1


def test_duplicate_barcodes_are_named(outs: Path) -> None:
    spots = _spots()
    spots.loc[3, "barcode"] = spots.loc[2, "barcode"]
    spots.to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(TissueError, match=r"1 duplicate barcodes, first 'ACGT0002-1'"):
        read(outs)


def test_barcodes_that_differ_by_a_suffix_join_when_asked(outs: Path) -> None:
    inside = np.array([b.removesuffix("-1") for b in _spots()["barcode"]])
    write_h5(outs / "filtered_feature_bc_matrix.h5", _counts(inside), inside)
    with pytest.raises(
        TissueError, match=r"20 of 20 barcodes without a position \(0.0% overlap\).*`strip_suffix: true`"
    ):
        read(outs)
    table = read(outs, strip_suffix=True).tables["patch_rna"]
    assert [int(b[4:8]) for b in table.obs_names] == list(table[:, "AAA"].X.toarray().ravel())


def test_counts_of_another_section_are_refused(outs: Path) -> None:
    barcodes = np.array([f"TTTT{i:04d}-1" for i in range(20)])
    write_h5(outs / "filtered_feature_bc_matrix.h5", _counts(barcodes), barcodes)
    with pytest.raises(TissueError, match=r"do both files belong to this section"):
        read(outs)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.nan, "values that are NaN or infinite"),
        (np.inf, "values that are NaN or infinite"),
        (-2.0, "negative values"),
        (0.7, "values that are not whole"),
    ],
)
def test_bad_counts_name_gene_and_barcode(outs: Path, value: float, found: str) -> None:
    inside = np.array(_spots()["barcode"][:20])
    counts = _counts(inside).astype(float)
    counts[4, 1] = value
    write_h5(outs / "filtered_feature_bc_matrix.h5", counts, inside)
    with pytest.raises(TissueError, match=f"found 1 {found}.*, first in 'ACGT0004-1', 'BBB'; "):
        read(outs)


def test_rows_and_columns_that_are_swapped_are_refused(outs: Path) -> None:
    spots = _spots()
    spots[["array_row", "array_col"]] = spots[["array_col", "array_row"]].to_numpy()
    spots.to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(ReadError, match=r"expected equal axes"):
        read(outs)


def test_x_swapped_with_y_is_reported_as_a_mirror(outs: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(outs)
    assert "mirror" not in caplog.text
    pixels = ["pxl_row_in_fullres", "pxl_col_in_fullres"]
    spots = _spots()
    spots[pixels] = spots[pixels[::-1]].to_numpy()
    spots.to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    read(outs)
    assert "a mirror image of the array; was the picture flipped, or x swapped with y?" in caplog.text


def test_a_slide_of_another_scale_is_refused(outs: Path, tmp_path: Path) -> None:
    import tifffile

    pixels = np.full((64, 64, 3), 200, np.uint8)
    size = {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 1.0, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "other.ome.tif", pixels, photometric="rgb", metadata={"axes": "YXS", **size})
    with pytest.raises(ReadError, match=r"expected 0.4999 µm, as the run says, found 1 µm a pixel"):
        read(outs, slide=tmp_path / "other.ome.tif")


def test_damaged_files_are_named(outs: Path) -> None:
    (outs / "spatial" / "scalefactors_json.json").write_text("{")
    with pytest.raises(ReadError, match=r"scalefactors_json.json: expected a number a key"):
        read(outs)
    inside = np.array(_spots()["barcode"][:20])
    write_h5(outs / "filtered_feature_bc_matrix.h5", _counts(inside), inside, indptr=np.arange(21) * 99)
    with pytest.raises(ReadError, match=r"filtered_feature_bc_matrix.h5.*indices that do not fit"):
        read(outs)
    data = (outs / "raw_feature_bc_matrix.h5").read_bytes()
    (outs / "raw_feature_bc_matrix.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"raw_feature_bc_matrix.h5: a damaged HDF5 file"):
        read(outs, counts="raw")


def test_several_bin_sizes_are_a_choice(outs: Path, tmp_path: Path) -> None:
    binned = tmp_path / "hd" / "binned_outputs"
    for name in ("square_008um", "square_016um"):
        shutil.copytree(outs, binned / name)
    with pytest.raises(ReadError, match=r"expected one, found bin folders square_008um, square_016um"):
        read(tmp_path / "hd")
    shutil.rmtree(binned / "square_016um")
    _spots().to_parquet(binned / "square_008um" / "spatial" / "tissue_positions.parquet")
    (binned / "square_008um" / "spatial" / "scalefactors_json.json").write_text(
        json.dumps({"bin_size_um": 8.0, "microns_per_pixel": 0.08, "tissue_hires_scalef": 0.2})
    )
    section = read(tmp_path / "hd")
    assert diameters_um(section, "patch") == pytest.approx(8)
    assert affine_of(section, "patch")[0, 0] == 0.08


def test_options_are_checked(outs: Path) -> None:
    with pytest.raises(ConfigError, match=r"it takes: counts, duplicates, image"):
        read(outs, couns="raw")


def test_the_cortex_sections_without_counts_have_places_and_picture(data_dir: Path) -> None:
    section = read(data_dir / "dlpfc-visium" / "151673", counts="none")
    assert len(section.shapes["patch"]) == 3639 and not list(section.tables)
    assert affine_of(section, "patch")[0, 0] == pytest.approx(0.7245, abs=0.0002)
    picture = section["slide"].data.compute()
    assert affine_of(section, "slide")[0, 0] == pytest.approx(16.1, abs=0.05)
    at = np.floor(positions_um(section, "patch") / affine_of(section, "slide")[0, 0]).astype(int)
    # Tissue under the spots is darker than glass at the corners: the frames agree.
    assert picture[:, at[:, 1], at[:, 0]].mean() < picture[:, :30, :30].mean() - 20
