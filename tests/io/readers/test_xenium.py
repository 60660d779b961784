"""Xenium folders: the vendor's own small one, later layouts with transcripts and an H&E, and their faults."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from itertools import product
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import READERS, read, reader_for, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um
from tests.vendor_folders import some_cells, write_10x_matrix


@pytest.fixture
def small(data_dir: Path) -> Path:
    return data_dir / "vendor-formats" / "mini-imaging" / "Xenium_small"


def test_real_folder(small: Path) -> None:
    assert recognise(small) == "xenium"
    section = read(small, section="X")
    np.testing.assert_allclose(positions_um(section, "cell")[0], [1898.81491699219, 2540.96314697266])
    np.testing.assert_allclose(diameters_um(section, "cell")[0], 2 * np.sqrt(305.21109375 / np.pi))
    table = section.tables["cell_rna"]
    assert (table.shape, list(table.obs_names)) == ((6, 4), list("123456"))
    assert table.X.sum() == 21
    assert section.attrs["aivc"] == {"section": "X", "platform": "Xenium"}
    assert {"cell_area", "nucleus_area"} <= set(section.shapes["cell"].columns)


def test_parquet_with_ids_as_bytes_reads_alike(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    cells = pd.read_csv(small / "cells.csv.gz", index_col=0)
    cells.assign(cell_id=[str(i).encode() for i in cells["cell_id"]]).to_parquet(folder / "cells.parquet")
    (folder / "cells.csv.gz").unlink()
    assert list(read(folder).shapes["cell"].index) == list("123456")


def test_rows_in_another_order_are_joined_by_barcode(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    cells = pd.read_csv(small / "cells.csv.gz", index_col=0).iloc[::-1]
    with gzip.open(folder / "cells.csv.gz", "wt") as file:
        cells.to_csv(file)
    section, straight = read(folder), read(small)
    assert list(section.shapes["cell"].index) == list("654321")
    pd.testing.assert_frame_equal(section["cell_rna"].to_df().sort_index(), straight["cell_rna"].to_df().sort_index())


def test_control_probes_are_dropped_and_counted(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _copy(small, tmp_path)
    with h5py.File(folder / "cell_feature_matrix.h5", "r+") as file:
        kinds = file["matrix/features/feature_type"][()].astype("S30")
        kinds[2] = b"Negative Control Probe"
        del file["matrix/features/feature_type"]
        file["matrix/features/feature_type"] = kinds
    with caplog.at_level(logging.INFO):
        section = read(folder)
    assert list(section["cell_rna"].var_names) == ["ABCC11", "ACTA2", "ADAM9"]
    assert "1 of 4 features dropped as controls (ACTG2 …)" in caplog.text


@pytest.mark.parametrize("ending", ["parquet", "csv.gz"])
def test_transcripts_are_lazy_and_filtered(small: Path, tmp_path: Path, ending: str) -> None:
    folder = _copy(small, tmp_path)
    molecules = pd.DataFrame(
        {
            "transcript_id": range(5),
            "cell_id": ["1", "UNASSIGNED", "2", "2", "3"],
            "feature_name": ["ACTA2", "ADAM9", "NegControlProbe_1", "ACTA2", "ABCC11"],
            "x_location": [1.0, 2.0, 3.0, 4.0, 5.0],
            "y_location": [10.0, 20.0, 30.0, 40.0, 50.0],
            "qv": [40.0, 20.0, 40.0, 12.0, 30.0],
        }
    )
    path = folder / f"transcripts.{ending}"
    molecules.to_parquet(path) if ending == "parquet" else molecules.to_csv(path, index=False)
    points = read(folder).points["transcripts"]
    assert type(points).__module__.startswith("dask")
    got = points.compute()
    assert got[["x", "y", "gene", "cell"]].astype({"gene": str, "cell": str}).to_numpy().tolist() == [
        [1.0, 10.0, "ACTA2", "1"],
        [2.0, 20.0, "ADAM9", ""],
        [5.0, 50.0, "ABCC11", "3"],
    ]
    assert "transcripts" not in read(folder, transcripts=False)


def test_slide_is_placed_by_the_vendors_affine_or_left_to_registration(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125, "major_version": 99}))
    tifffile.imwrite(folder / "he.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    shutil.copyfile(folder / "he.tif", folder / "morphology_mip.ome.tif")
    matrix = np.array([[0.0, -2.0, 300.0], [2.0, 0.0, 40.0], [0.0, 0.0, 1.0]])
    np.savetxt(folder / "align.csv", matrix, delimiter=",")
    placed = affine_of(read(folder, slide="he.tif", slide_affine="align.csv"), "slide")
    np.testing.assert_allclose(placed @ [10, 20, 1], [0.2125 * 260, 0.2125 * 60, 1])
    assert affine_of(read(folder, slide="he.tif"), "slide") is None
    own = affine_of(read(folder, slide="morphology_mip.ome.tif"), "slide")
    np.testing.assert_allclose(own, np.diag([0.2125, 0.2125, 1]))


def test_faults_are_named(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    (folder / "cell_feature_matrix.h5").unlink()
    with pytest.raises(ReadError, match=r"expected cell_feature_matrix\.h5 or cell_feature_matrix or .*, found"):
        read(folder, reader="xenium")
    folder = _copy(small, tmp_path)
    with gzip.open(folder / "cells.csv.gz", "wt") as file:
        file.write("id,x,y\n1,2,3\n")
    with pytest.raises(ReadError, match=r"a column 'cell_id'[\s\S]*a column 'x_centroid'[\s\S]*a column 'y_centroid'"):
        read(folder)
    folder = _copy(small, tmp_path)
    (folder / "experiment.xenium").write_text("{")
    with pytest.raises(ReadError, match=r"experiment\.xenium: expected the experiment's facts, found text that is not"):
        read(folder)
    folder = _copy(small, tmp_path)
    tifffile.imwrite(folder / "he.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with pytest.raises(ReadError, match=r"pixel size: expected a number, found none in experiment\.xenium"):
        read(folder, slide="he.tif", slide_affine="align.csv")
    (folder / "align.csv").write_text("1,2\n3,4\n")
    with pytest.raises(ReadError, match=r"align\.csv: expected 3 × 3 numbers.*found a matrix of shape \(2, 2\)"):
        read(folder, slide="he.tif", slide_affine="align.csv", mpp=0.2125)


def _copy(small: Path, tmp_path: Path) -> Path:
    folder = tmp_path / f"xenium{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    for name in ("cells.csv.gz", "cell_feature_matrix.h5"):
        shutil.copyfile(small / name, folder / name)
    return folder


def test_labels_are_joined_by_barcode(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    (folder / "groups.csv").write_text("Barcode,Cluster\n3,B cell\n1,tumour\n2,\n")
    label = read(folder, labels="groups.csv").shapes["cell"]["label"]
    assert list(label[["1", "3"]]) == ["tumour", "B cell"] and label[["2", "4", "5", "6"]].isna().all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cell_id,label\n1,a\n1,b\n", "cell '1' twice"),
        ("cell_id,label\n1-1,a\n2-1,b\n", "2 of 2 labels at no cell"),
        ("cell_id,colour\n1,a\n", "label"),
    ],
)
def test_faulty_labels_are_named(small: Path, tmp_path: Path, text: str, said: str) -> None:
    folder = _copy(small, tmp_path)
    (folder / "labels.csv").write_text(text)
    with pytest.raises(ReadError, match=said) as caught:
        read(folder, labels="labels.csv")
    assert "labels.csv" in str(caught.value)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Return a run of which only the packed Zarr stores were kept, with a protein of a gene's name."""
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125, "major_version": 4}))
    cells = some_cells()
    features = [*cells.genes, "NegControlProbe_1", "G00"]
    kinds = ["gene"] * len(cells.genes) + ["negative_control_probe", "protein"]
    counts = np.column_stack([cells.counts, np.ones(len(cells), np.int64), np.arange(len(cells))])
    ids = np.column_stack([np.arange(len(cells)) + 992, np.ones(len(cells), np.int64)]).astype(np.uint32)
    by_feature = sparse.csr_matrix(counts[::-1].T)
    for name in ("cells", "cell_feature_matrix"):
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        if name == "cells":
            group.create_array("cell_id", data=ids)
            summary = group.create_array("cell_summary", data=np.column_stack([cells.xy_um, cells.area_um2]))
            summary.attrs["column_names"] = ["cell_centroid_x", "cell_centroid_y", "cell_area"]
        else:
            group = group.create_group("cell_features")
            for part in ("data", "indices", "indptr"):
                group.create_array(part, data=getattr(by_feature, part).astype(np.uint32))
            group.create_array("cell_id", data=ids[::-1])
            group.attrs.update(feature_keys=features, feature_ids=features, feature_types=kinds)
        shutil.make_archive(str(folder / f"{name}.zarr"), "zip", tmp_path / name)
    return folder


def test_packed_stores_read_as_the_tables_do(packed: Path) -> None:
    cells = some_cells()
    assert recognise(packed) == "xenium"
    section = read(packed)
    assert section["cell"].index[0] == "aaaaadoa-1"
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um)
    np.testing.assert_allclose(diameters_um(section, "cell"), 2 * np.sqrt(cells.area_um2 / np.pi))
    table = section["cell_rna"][section["cell"].index]
    assert list(table.var_names) == list(cells.genes) and table.uns["genes"]["dropped_controls"] == 1
    np.testing.assert_array_equal(table.X.toarray(), cells.counts)
    protein = section["cell_protein"][section["cell"].index]
    assert list(protein.var_names) == ["G00"] and list(protein.X.toarray().ravel()) == list(range(80))


def test_damaged_and_unsafe_packed_stores_are_refused(packed: Path) -> None:
    whole = (packed / "cells.zarr.zip").read_bytes()
    (packed / "cells.zarr.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"cells.zarr.zip: a damaged ZIP"):
        read(packed)
    with ZipFile(packed / "cells.zarr.zip", "w") as archive:
        archive.writestr(".zgroup", json.dumps({"zarr_format": 2}))
        archive.writestr("cell_summary/.zarray", json.dumps({"filters": [{"id": "pickle"}], "compressor": None}))
    with pytest.raises(ReadError, match=r"an array stored as pickle"):
        read(packed)
    with ZipFile(packed / "cells.zarr.zip", "w") as archive:
        archive.writestr(".zgroup", json.dumps({"zarr_format": 2}))
    with pytest.raises(ReadError, match=r"expected the layout of Xenium Onboard.*KeyError.*take cells.parquet"):
        read(packed)


def test_intensities_that_are_not_whole_are_no_counts(packed: Path) -> None:
    (packed / "cell_feature_matrix.zarr.zip").unlink()
    cells = some_cells()
    names = [f"{name}-1" for name in ("aaaaa" + "".join(t) for t in product("a", "n", "abcdefghijklmnop"))][:16]
    pd.DataFrame({"cell_id": names, "x_centroid": cells.xy_um[:16, 0], "y_centroid": cells.xy_um[:16, 1]}).to_parquet(
        packed / "cells.parquet"
    )
    counts = np.column_stack([cells.counts[:16], np.arange(16) + 0.5])
    kinds = ["Gene Expression"] * 12 + ["Protein Expression"]
    write_10x_matrix(packed / "cell_feature_matrix.h5", names, [*cells.genes, "CD3"], counts, kinds)
    section = read(packed)
    assert section["cell_intensity"].X.ravel().tolist() == (np.arange(16) + 0.5).tolist()
    assert "cell_protein" not in section.tables


def test_a_folder_without_counts_names_them(packed: Path) -> None:
    (packed / "cell_feature_matrix.zarr.zip").unlink()
    assert recognise(packed) == "xenium"
    with pytest.raises(ReadError, match=r"expected cell_feature_matrix.h5 or cell_feature_matrix or cell_feature_matr"):
        read(packed)


def test_pictures_of_several_channels_and_planes(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    (folder / "morphology_focus").mkdir()
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    for name in ("ch0000_dapi", "ch0001_atp1a1"):
        tifffile.imwrite(folder / "morphology_focus" / f"{name}.ome.tif", np.zeros((64, 64), np.uint8), ome=True)
    tifffile.imwrite(folder / "morphology.ome.tif", np.zeros((3, 64, 64), np.uint8), metadata={"axes": "ZYX"}, ome=True)
    with doubts_heard() as doubts:
        section = read(folder, slide="morphology_focus")
    assert affine_of(section, "slide")[0, 0] == pytest.approx(0.2125)
    assert any("ch0000_dapi.ome.tif is taken, of 2 pictures of one channel each" in doubt for doubt in doubts)
    with pytest.raises(ReadError, match=r"axes ZYX of \(3, 64, 64\).*in focus is in morphology_focus/ch0000_dapi"):
        read(folder, slide="morphology.ome.tif")
    with pytest.raises(ReadError, match=r"no such picture; name one of .*morphology_focus/ch0001_atp1a1.ome.tif"):
        read(folder, slide="morphology_focus/morphology_focus_0000.ome.tif")


def test_counts_of_another_run_are_doubted(small: Path, tmp_path: Path) -> None:
    folder, cells = tmp_path / "x", some_cells()
    folder.mkdir()
    names = [f"c{i}" for i in range(len(cells))]
    table = pd.DataFrame({"cell_id": names, "x_centroid": cells.xy_um[:, 0], "y_centroid": cells.xy_um[:, 1]})
    kinds = ["Gene Expression"] * 12
    write_10x_matrix(folder / "cell_feature_matrix.h5", names, list(cells.genes), cells.counts, kinds)
    for order, doubted in ((np.arange(80), False), (np.random.default_rng(0).permutation(80), True)):
        table.assign(transcript_counts=cells.counts.sum(axis=1)[order]).to_parquet(folder / "cells.parquet")
        with doubts_heard() as doubts:
            read(folder)
        assert any("correlate with 'transcript_counts'" in doubt for doubt in doubts) == doubted


@pytest.mark.parametrize("ending", ["parquet", "csv.gz"])
def test_outlines_are_joined_by_cell(small: Path, tmp_path: Path, ending: str) -> None:
    folder = _copy(small, tmp_path)
    cells = pd.read_csv(small / "cells.csv.gz", index_col=0).iloc[1:]
    turn = np.arange(8) * np.pi / 4
    corners = cells[["x_centroid", "y_centroid"]].to_numpy()[:, None] + 5 * np.stack([np.cos(turn), np.sin(turn)], -1)
    table = pd.DataFrame({"cell_id": np.repeat(cells["cell_id"], 8)})
    table[["vertex_x", "vertex_y"]] = corners.reshape(-1, 2)
    path = folder / f"cell_boundaries.{ending}"
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path, index=False)
    outlines = read(folder)["cell_outlines"]
    assert [name for name in READERS if READERS[name].recognises(folder)] == ["xenium"]
    assert list(outlines.index) == list("23456")
    np.testing.assert_allclose(outlines.area, 8 * 25 * np.sin(np.pi / 4) / 2)
    assert "cell_outlines" not in read(folder, outlines=False)


def test_a_column_of_the_cells_tells_sections_on_one_slide_apart(small: Path, tmp_path: Path) -> None:
    folder = _copy(small, tmp_path)
    cells = pd.read_csv(small / "cells.csv.gz", index_col=0).assign(core=["t1", "t1", "t2", "t2", "t3", "t3"])
    cells["ok"] = [1, 1, 1, 0, 0, 0]
    with gzip.open(folder / "cells.csv.gz", "wt") as file:
        cells.to_csv(file)
    parts = reader_for(folder).read_by(folder, ("core",))
    assert {name: list(part.shapes["cell"].index) for name, part in parts.items()} == {
        "t1": ["1", "2"], "t2": ["3", "4"], "t3": ["5", "6"]
    }  # fmt: skip
    whole = read(folder)["cell_rna"].to_df()
    for name, part in parts.items():
        assert part.attrs["aivc"]["section"] == name
        pd.testing.assert_frame_equal(part["cell_rna"].to_df(), whole.loc[part["cell_rna"].obs_names])
    kept = reader_for(folder, keep={"ok": 1}).read_by(folder, ("core", "ok"))
    assert {name: len(part.shapes["cell"]) for name, part in kept.items()} == {"t1-1": 2, "t2-1": 1}
    with pytest.raises(ReadError, match=r"no column named 'cores'; did you mean 'core'"):
        reader_for(folder).read_by(folder, ("cores",))
