"""The simulator: same seed same bytes, what it writes, and whether its truth holds in what it shows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.errors import ConfigError
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.simulate.demo import SimulatedSection, composition, simulate_section
from aivc_graph.simulate.layout import GLASS
from aivc_graph.simulate.programmes import CELL_TYPES, GENES, MIXTURE, NICHES, PROGRAMMES, TYPE_NAMES, type_profiles
from aivc_graph.simulate.simulate import simulate
from aivc_graph.simulate.slide import paint_slide
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section


@pytest.fixture(scope="module")
def section() -> SimulatedSection:
    return simulate_section(800.0, 0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("tiny", tmp_path_factory.mktemp("sim") / "tiny", seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
        if p.is_file()
    }


def counts_of(path: Path) -> pd.DataFrame:
    with h5py.File(path) as file:
        matrix = file["matrix"]
        csc = sparse.csc_matrix((matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), matrix["shape"][:])
        genes, barcodes = (matrix[key][:].astype(str) for key in ("features/name", "barcodes"))
    return pd.DataFrame(csc.T.toarray(), index=barcodes, columns=genes)


def test_same_seed_same_bytes_other_seed_other_tissue(files: Path, tmp_path: Path) -> None:
    assert digests(simulate("tiny", tmp_path / "again", seed=5)) == digests(files)
    other = digests(simulate("tiny", tmp_path / "other", seed=6))
    assert set(other) == set(digests(files)) and other["slide.ome.tif"] != digests(files)["slide.ome.tif"]


def test_panel_and_mixture_are_sound() -> None:
    assert len(GENES) == 120 == len(set(GENES))
    assert MIXTURE.shape == (len(NICHES), len(TYPE_NAMES))
    np.testing.assert_allclose(MIXTURE.sum(axis=1), 1.0)
    profiles = pd.DataFrame(type_profiles(), TYPE_NAMES, list(GENES))
    for gene, kind in {
        "EPCAM": "tumour",
        "COL1A1": "fibroblast",
        "PECAM1": "endothelial",
        "CD68": "macrophage",
        "MS4A1": "B",
    }.items():
        assert profiles[gene].drop("cycling tumour" if gene == "EPCAM" else []).idxmax() == kind


def test_cells_keep_apart_and_follow_their_niche(section: SimulatedSection) -> None:
    assert 800 < len(section.cell_xy) < 2500
    assert cKDTree(section.cell_xy).query(section.cell_xy, k=2)[0][:, 1].min() > 7.0
    assert (section.layout.at(section.layout.niche, section.cell_xy) == section.cell_niche).all()
    assert (section.cell_niche != GLASS).all() and not section.layout.at(section.layout.lumen, section.cell_xy).any()
    for niche in np.unique(section.cell_niche):
        kinds = section.cell_type[section.cell_niche == niche]
        share = np.bincount(kinds, minlength=len(TYPE_NAMES)) / len(kinds)
        assert np.abs(share - MIXTURE[niche]).max() < 4 * np.sqrt(0.25 / len(kinds))


def test_context_shows_in_counts_of_the_types_that_respond(section: SimulatedSection) -> None:
    hypoxia, fibroblast = section.context[:, 0], TYPE_NAMES.index("fibroblast")
    assert (hypoxia[section.cell_type == fibroblast] == 0).all()
    share = section.cell_counts[:, np.isin(GENES, PROGRAMMES["hypoxia"])].sum(axis=1) / section.cell_counts.sum(axis=1)
    tumour = section.cell_type == TYPE_NAMES.index("tumour")
    assert share[tumour & (hypoxia > 0.8)].mean() > 3 * share[tumour & (hypoxia < 0.1)].mean()


def test_spots_are_what_they_capture(section: SimulatedSection) -> None:
    distance = cKDTree(section.spot_xy).query(section.spot_xy, k=2)[0][:, 1]
    np.testing.assert_allclose(distance, 100.0)
    inside = section.in_tissue
    total, expected = section.spot_counts.sum(axis=1)[inside], (section.capture @ section.cell_rate).sum(axis=1)[inside]
    assert np.corrcoef(np.log1p(total), np.log1p(expected))[0, 1] > 0.95
    share = composition(section)
    np.testing.assert_allclose(share.sum(axis=1)[inside], 1.0)
    luminal = section.spot_counts[:, np.isin(GENES, PROGRAMMES["luminal"])].sum(axis=1)[inside] / total
    assert np.corrcoef(luminal, share[inside, :2].sum(axis=1))[0, 1] > 0.9


def test_nuclei_on_the_picture_are_the_cells_of_the_truth(section: SimulatedSection) -> None:
    tissue = new_section("sim")
    barcodes = [f"b{i}" for i in range(len(section.spot_xy))]
    add_level(tissue, "patch", barcodes, section.spot_xy, 27.5, scale_affine(1.0))
    add_slide(tissue, da.from_array(np.moveaxis(paint_slide(section, 0), -1, 0)), scale_affine(1.0))
    add_histology(tissue, features=HistologyFeatures(min_tissue=0.5), progress=False)
    seen = tissue.tables["patch_histology"].to_df()["nuclei_count"]
    half = tissue.tables["patch_histology"].uns["histology"]["tile_um"] / 2
    below = cKDTree(section.cell_xy).query_ball_point(section.spot_xy, half, p=np.inf, return_length=True)
    true = pd.Series(below, barcodes)[seen.index]
    assert np.corrcoef(seen, true)[0, 1] > 0.9
    assert seen.sum() == pytest.approx(true.sum(), rel=0.2)


def test_files_agree_with_each_other_and_with_the_truth(files: Path) -> None:
    spots = counts_of(files / "spaceranger/outs/filtered_feature_bc_matrix.h5")
    spatial = files / "spaceranger/outs/spatial"
    positions = pd.read_csv(spatial / "tissue_positions.csv", index_col="barcode")
    assert set(spots.index) == set(positions.index[positions.in_tissue == 1]) and list(spots.index) != list(
        positions.index
    )
    truth = pd.read_parquet(files / "truth/spots.parquet").set_index("barcode")
    assert (truth.niche[positions.index[positions.in_tissue == 0]] == "glass").all()
    cells = pd.read_csv(files / "xenium/cells.csv.gz", index_col="cell_id")
    matrix = counts_of(files / "xenium/cell_feature_matrix.h5")
    assert (matrix.sum(axis=1) == cells.transcript_counts[matrix.index]).all() and len(cells) <= 600
    assert set(pd.read_parquet(files / "truth/cells.parquet").type) <= set(CELL_TYPES)
    factors = json.loads((spatial / "scalefactors_json.json").read_text())
    assert factors["spot_diameter_fullres"] == 65.0


def test_slide_is_a_tiled_pyramid_with_its_pixel_size(files: Path) -> None:
    with tifffile.TiffFile(files / "slide.ome.tif") as tiff:
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(400, 400, 3), (200, 200, 3)]
        assert levels[0].pages[0].is_tiled and 'PhysicalSizeX="1.0"' in tiff.ome_metadata
        assert np.abs(levels[0].asarray()[::2, ::2].astype(int) - levels[1].asarray()).mean() < 12


def test_faults_name_what_to_do_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset named 'tinny'; did you mean 'tiny'\? \(known: demo, tiny\)"):
        simulate("tinny", tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="already holds something; name a new folder"):
        simulate("tiny", tmp_path / "mine")
    with pytest.raises(ConfigError, match="expected a whole number from 0, found -1"):
        simulate("tiny", tmp_path / "y", seed=-1)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
