"""Segmented cells of Visium HD: outlines joined to counts, in the run's own scale, and faulty deliveries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.reading import READERS, read, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um
from tests.vendor_folders import Cells, some_cells, write_segmented

OUTLINES = "cell_segmentations.geojson"


@pytest.fixture
def cells() -> Cells:
    return some_cells()


@pytest.fixture
def folder(cells: Cells, tmp_path: Path) -> Path:
    return write_segmented(cells, tmp_path / "outs" / "segmented_outputs")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_cells_with_counts_have_outlines_places_and_sizes(cells: Cells, folder: Path) -> None:
    assert recognise(folder) == recognise(folder.parent) == "spaceranger_cells"
    with doubts_heard() as doubts:
        section = read(folder)
    assert section.attrs["aivc"] == {"section": "segmented_outputs", "platform": "Visium HD"}
    assert len(section["cell"]) == len(section["cell_outlines"]) == section["cell_rna"].n_obs == len(cells)
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um, rtol=1e-9)
    np.testing.assert_allclose(diameters_um(section, "cell"), 2 * np.sqrt(cells.area_um2 / np.pi))
    np.testing.assert_allclose(section["cell_outlines"].area * 0.25**2, cells.area_um2)
    np.testing.assert_array_equal(section["cell_rna"].X.toarray(), cells.counts)
    np.testing.assert_allclose(affine_of(section, "slide"), np.diag([2.5, 2.5, 1]))
    assert len(doubts) == 1 and "3 of 83 outlines without a row of counts are left out" in doubts[0]
    assert len(read(folder.parent)["cell"]) == len(cells)


def test_outlines_as_others_write_them(cells: Cells, folder: Path) -> None:
    whole = read(folder)

    def rewritten(found: dict[str, Any]) -> None:
        for feature in found["features"]:
            speck = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
            rings = [speck, feature["geometry"]["coordinates"]]
            feature["geometry"] = {"type": "MultiPolygon", "coordinates": rings}
            feature["properties"] = {
                "cell_id": float(feature["properties"]["cell_id"]),
                "classification": {"name": "T"},
            }

    edit(folder / OUTLINES, rewritten)
    packed = gzip.compress((folder / OUTLINES).read_bytes())
    (folder / OUTLINES).unlink()
    (folder / f"{OUTLINES}.gz").write_bytes(packed)
    section = read(folder, label="classification")
    assert set(section["cell"]["label"]) == {"T"}
    np.testing.assert_allclose(positions_um(section, "cell"), positions_um(whole, "cell"))


def test_labels_and_kept_cells(cells: Cells, folder: Path) -> None:
    label = read(folder, labels="clusters.csv")["cell"]["label"]
    assert list(label) == list(np.where(cells.field_number == 1, "left", "right"))

    def told(found: dict[str, Any]) -> None:
        for i, feature in enumerate(found["features"]):
            feature["properties"]["good"] = i % 2

    edit(folder / OUTLINES, told)
    section = read(folder, keep={"good": 1})
    assert len(section["cell"]) == section["cell_rna"].n_obs == len(cells) // 2


def test_a_run_of_bins_as_well_is_read_by_its_bins_and_names_the_cells(folder: Path) -> None:
    for bins in ("square_008um", "square_016um"):
        (folder.parent / "binned_outputs" / bins).mkdir(parents=True)
    assert recognise(folder.parent) == "spaceranger"
    with pytest.raises(ReadError, match=r"square_008um, square_016um; .*of the segmented cells, segmented_outputs"):
        read(folder.parent)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "spatial" / "scalefactors_json.json").unlink()
    with pytest.raises(ReadError, match=r"um_per_unit: expected the microns per unit of the positions"):
        read(folder)
    assert len(read(folder, um_per_unit=0.25, image="none")["cell"]) == 80
    (folder / OUTLINES).rename(folder / "kept.txt")
    with pytest.raises(ReadError, match=r"expected cell_segmentations.geojson, found clusters.csv"):
        read(folder)
    (folder / "kept.txt").rename(folder / OUTLINES)
    (folder / "filtered_feature_cell_matrix.h5").unlink()
    with pytest.raises(ReadError, match=r"expected filtered_feature_cell_matrix or raw_feature_cell_matrix, .h5 or"):
        read(folder)


def test_damaged_outlines_are_named(folder: Path) -> None:
    whole = (folder / OUTLINES).read_text()
    (folder / OUTLINES).write_text(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"text that breaks off or is damaged at character [\d,]+ of"):
        read(folder)
    (folder / OUTLINES).write_text(whole)
    edit(folder / OUTLINES, lambda found: found["features"][4]["properties"].pop("cell_id"))
    with pytest.raises(ReadError, match=r"feature 5: expected a polygon with a 'cell_id', found no outline .*KeyError"):
        read(folder)
    edit(folder / OUTLINES, lambda found: found["features"][4].update(properties={"cell_id": "x"}))
    with pytest.raises(ReadError, match=r"cell_id: expected the number of a cell, found 'x'"):
        read(folder)
    (folder / OUTLINES).write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ReadError, match=r"expected an outline a cell, found no feature"):
        read(folder)


def test_outlines_and_counts_of_different_runs_are_refused(cells: Cells, folder: Path) -> None:
    def renumbered(found: dict[str, Any]) -> None:
        for feature in found["features"]:
            feature["properties"]["cell_id"] += 50

    edit(folder / OUTLINES, renumbered)
    with pytest.raises(AivcError, match=r"50 of 80 barcodes without a position \(37.5% overlap\)"):
        read(folder)


def test_outlines_in_another_unit_are_refused(folder: Path) -> None:
    edit(folder / "spatial" / "scalefactors_json.json", lambda found: found.update(microns_per_pixel=0.025))
    with pytest.raises(AivcError, match=r"median nearest-neighbour distance of 1\.\d+ µm"):
        read(folder, image="none")


def test_no_other_reader_takes_it(folder: Path) -> None:
    for path in (folder.parent, folder):
        assert [name for name in READERS if READERS[name].recognises(path)] == ["spaceranger_cells"]
