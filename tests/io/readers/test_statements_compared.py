"""Two statements in one delivery are compared, and names as vendors and archives write them are read."""

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
import tifffile

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.io.reading import read
from aivc_graph.io.slides import open_slide
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of

PITCH = 200.0
GENES = [f"GENE{i}" for i in range(6)]


def _h5(path: Path, barcodes: list[str], kinds: list[str] | None = None) -> None:
    from scipy import sparse

    csc = sparse.csc_matrix(np.random.default_rng(0).poisson(3, (len(GENES), len(barcodes))) + 1)
    with h5py.File(path, "w") as file:
        parts = {"data": csc.data, "indices": csc.indices, "indptr": csc.indptr, "shape": np.array(csc.shape)}
        for key, value in {**parts, "barcodes": np.array(barcodes, "S")}.items():
            file[f"matrix/{key}"] = value
        columns = {"id": [f"ENSG{i:011d}" for i in range(6)], "name": GENES}
        columns |= {"feature_type": kinds or ["Gene Expression"] * 6, "genome": ["GRCh38"] * 6}
        for key, names in columns.items():
            file[f"matrix/features/{key}"] = np.array(names, "S")


def _png(path: Path, height: int, width: int) -> None:
    from imagecodecs import png_encode

    path.write_bytes(png_encode(np.full((height, width, 3), 200, np.uint8)))


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    """Sixty spots at 0.5 µm a pixel, up to pixel 1,100 × 1,700; hires picture at a tenth."""
    spatial = tmp_path / "outs" / "spatial"
    spatial.mkdir(parents=True)
    row, column = np.divmod(np.arange(60), 6)
    column = 2 * column + row % 2
    spots = {
        "barcode": [f"B{i:03d}-1" for i in range(60)],
        "in_tissue": 1,
        "array_row": row,
        "array_col": column,
        "pxl_row_in_fullres": 100 + row * PITCH * np.sqrt(3) / 2,
        "pxl_col_in_fullres": 100 + column * PITCH / 2,
    }
    pd.DataFrame(spots).to_csv(spatial / "tissue_positions.csv", index=False)
    factors = {"spot_diameter_fullres": 130.0, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    _png(spatial / "tissue_hires_image.png", 180, 130)
    _h5(tmp_path / "outs" / "filtered_feature_bc_matrix.h5", list(spots["barcode"]))
    return tmp_path / "outs"


def _heard(path: Path, **options: Any) -> tuple[Any, str]:
    with doubts_heard() as doubts:
        section = read(path, **options)
    return section, "\n".join(doubts)


def test_a_whole_run_is_not_doubted(outs: Path) -> None:
    assert _heard(outs)[1] == ""


@pytest.mark.parametrize(
    ("size", "said"), [((54, 39), "spots up to pixel 120"), ((600, 430), "spots no farther than 120")]
)
def test_a_picture_of_another_scale_is_doubted(outs: Path, size: tuple[int, int], said: str) -> None:
    _png(outs / "spatial" / "tissue_hires_image.png", *size)
    assert said in _heard(outs)[1]


def test_a_matrix_of_a_few_spots_is_doubted(outs: Path) -> None:
    _h5(outs / "filtered_feature_bc_matrix.h5", [f"B{i:03d}-1" for i in range(6)])
    assert "6 of 60 patch nodes measured" in _heard(outs)[1]


def test_an_aggregated_matrix_is_read_one_library_at_a_time(outs: Path) -> None:
    _h5(outs / "filtered_feature_bc_matrix.h5", [f"B{i:03d}-{of}" for of in (1, 2) for i in range(60)])
    with pytest.raises(TissueError, match=r"libraries \(-1, -2\) share barcodes: keep one"):
        read(outs)
    with pytest.raises(TissueError, match=r"libraries \(-1, -2\) that share 60 barcodes"):
        read(outs, strip_suffix=True)
    first, second = (read(outs, library=of).tables["patch_rna"] for of in (1, 2))
    assert first.n_obs == second.n_obs == 60 and (first.X != second.X).nnz > 0
    with pytest.raises(ReadError, match=r"library: expected one of 1, 2, found 3"):
        read(outs, library=3)


def test_other_kinds_of_features_are_told(outs: Path) -> None:
    _h5(outs / "filtered_feature_bc_matrix.h5", [f"B{i:03d}-1" for i in range(60)], ["Gene Expression"] * 4 + ["X"] * 2)
    section, said = _heard(outs)
    assert section.tables["patch_rna"].n_vars == 4 and "2 features of type 'X' are left out (first GENE4" in said


def test_names_as_archives_write_them(outs: Path) -> None:
    whole = read(outs)
    for path in (outs / "spatial" / "tissue_positions.csv", outs / "spatial" / "scalefactors_json.json"):
        path.with_name(f"GSM1_{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (outs / "filtered_feature_bc_matrix.h5").rename(outs / "GSM1_filtered_feature_bc_matrix.h5")
    section, said = _heard(outs)
    assert said == "" and affine_of(section, "slide") == pytest.approx(affine_of(whole, "slide"))
    assert (section.tables["patch_rna"].X != whole.tables["patch_rna"].X).nnz == 0
    shutil.copy(outs / "GSM1_filtered_feature_bc_matrix.h5", outs / "GSM2_filtered_feature_bc_matrix.h5")
    with pytest.raises(ReadError, match=r"found 2 of them: GSM1_.*GSM2_.*put each sample in a folder of its own"):
        read(outs)


@pytest.fixture
def xenium(tmp_path: Path) -> Path:
    folder = tmp_path / "xenium"
    (folder / "morphology_focus").mkdir(parents=True)
    x, y = (9.0 * v.ravel() for v in np.meshgrid(np.arange(8), np.arange(8)))
    cells = {"cell_id": [f"c{i}" for i in range(64)], "x_centroid": x, "y_centroid": y, "cell_area": 50.0}
    pd.DataFrame({**cells, "run": np.arange(64) % 2}).to_csv(folder / "cells.csv", index=False)
    _h5(folder / "cell_feature_matrix.h5", cells["cell_id"], ["Gene Expression"] * 5 + ["Protein Expression"])
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    for name in ("morphology_focus/ch0000_dapi.ome.tif", "he.ome.tif"):
        tifffile.imwrite(folder / name, np.zeros((400, 400), np.uint8), tile=(128, 128), ome=True)
    return folder


def test_cells_packed_or_not_whatever_the_name(xenium: Path) -> None:
    text = (xenium / "cells.csv").read_bytes()
    (xenium / "cells.csv").unlink()
    for content in (text, gzip.compress(text)):
        (xenium / "cells.csv.gz").write_bytes(content)
        assert len(read(xenium).shapes["cell"]) == 64


def test_proteins_are_a_modality_and_cells_kept_by_value(xenium: Path) -> None:
    section, said = _heard(xenium, keep={"run": 1})
    assert "1 proteins, which are mean intensities, are taken for counts of protein" in said
    assert section.tables["cell_rna"].shape == (32, 5) and section.tables["cell_protein"].shape == (32, 1)


def test_pictures_of_any_version_are_placed_and_a_useless_size_is_refused(xenium: Path) -> None:
    section = read(xenium, slide="morphology_focus/ch0000_dapi.ome.tif")
    assert affine_of(section, "slide")[0, 0] == pytest.approx(0.2125)
    with pytest.raises(ReadError, match=r"mpp: expected the one whose pixel size it is, found no morphology image"):
        read(xenium, slide="he.ome.tif", mpp=0.5)


def test_the_largest_image_of_a_file_is_taken_and_rivals_are_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.ome.tif"
    for second, rivals in (((512, 768), False), ((160, 256), True)):
        with tifffile.TiffWriter(path, ome=True) as file:
            for (height, width), size in (((128, 256), 4.0), (second, 0.5)):
                pixels = np.zeros((height, width, 3), np.uint8)
                units = {"PhysicalSizeX": size, "PhysicalSizeY": size}
                file.write(pixels, photometric="rgb", tile=(128, 128), metadata={"axes": "YXS", **units})
        with doubts_heard() as doubts:
            pixels, um_per_pixel = open_slide(path)
        assert pixels.shape == (3, *second) and um_per_pixel == 0.5 and bool(doubts) == rivals
        assert pixels[:, -1, -1].compute().shape == (3,)
    assert "2 images (0: 256 × 128 px, 1: 256 × 160 px), of which 1 is taken" in doubts[0]
    assert open_slide(path, image=0)[1] == 4.0
    with pytest.raises(ReadError, match=r"image: expected one of 0: 256 × 128 px"):
        open_slide(path, image=2)


def test_oblong_pixels_are_refused_unless_a_size_is_given(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    for y, oblong in ((10_000, True), (20_000, False)):
        tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), resolution=(20_000, y), resolutionunit=3)
        if oblong:
            with pytest.raises(ReadError, match=r"expected square pixels, found 0.5 × 1 µm"):
                open_slide(path)
            assert open_slide(path, mpp=0.5)[1] == 0.5
        else:
            assert open_slide(path)[1] == pytest.approx(0.5)
