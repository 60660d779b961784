"""Tables of mean intensities: right values in microns, images that are not laid on each other, and faulty tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.reading import READERS, read, reader_for, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import diameters_um, positions_um
from tests.vendor_folders import (
    MARKERS,
    Cells,
    intensities,
    quantification,
    some_cells,
    write_mcmicro,
    write_steinbock,
)

UM = 0.65


@pytest.fixture
def cells() -> Cells:
    return some_cells()


@pytest.fixture
def path(cells: Cells, tmp_path: Path) -> Path:
    return save(quantification(cells), tmp_path / "cells.csv")


def save(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


def test_values_stay_as_they_are_and_places_become_microns(cells: Cells, path: Path) -> None:
    assert recognise(path) == "intensity_table"
    section = read(path, um_per_unit=UM)
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um)
    np.testing.assert_allclose(diameters_um(section, "cell"), 2 * np.sqrt(cells.area_um2 / np.pi))
    table = section["cell_intensity"]
    assert list(table.var_names) == list(MARKERS) and list(section["cell"].index[:2]) == ["1", "2"]
    np.testing.assert_allclose(table.X, intensities(cells), rtol=1e-6)
    assert list(section.tables) == ["cell_intensity"]


def test_a_scale_is_asked_for_and_inspect_says_what_else(cells: Cells, path: Path) -> None:
    with pytest.raises(ReadError, match=r"um_per_unit: .*found none \(neighbours are 1\d\.\d+ units apart\)") as caught:
        read(path)
    assert "diameter_um" not in str(caught.value)
    seen = reader_for(path).preview(path)
    assert seen is not None and seen["markers"] == [*MARKERS, "Blank1"] and seen["rows"] == 80
    assert seen["needs"] == ["um_per_unit: microns a pixel (1 in imaging mass cytometry)"]


def test_an_mcmicro_folder_states_its_scale_and_its_markers(cells: Cells, tmp_path: Path) -> None:
    folder = write_mcmicro(cells, tmp_path / "exemplar")
    table = quantification(cells).assign(run_score=1.5)
    save(table, folder / "quantification" / "exemplar-001--unmicst_cell.csv")
    assert recognise(folder) == "intensity_table"
    section = read(folder)
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um)
    assert list(section["cell_intensity"].var_names) == list(MARKERS)
    assert reader_for(folder).preview(folder) is None


def test_images_in_frames_of_their_own_are_sections(cells: Cells, tmp_path: Path) -> None:
    folder = write_steinbock(cells, tmp_path / "steinbock")
    assert recognise(folder) == "intensity_table"
    with pytest.raises(ReadError, match=r"'A_001' and 'A_002' lie on top of each other; .*sections_by: image"):
        read(folder, um_per_unit=1)
    parts = reader_for(folder, um_per_unit=1).read_by(folder, ("image",))
    assert list(parts) == ["A_001", "A_002"]
    np.testing.assert_allclose(positions_um(parts["A_002"], "cell"), cells.xy_um)
    np.testing.assert_allclose(parts["A_002"]["cell_intensity"].X, intensities(cells), rtol=1e-6)
    one = read(folder, um_per_unit=1, keep={"image": "A_001"})
    assert len(one["cell"]) == 80 and one["cell"].index[0] == "A_001_1"
    seen = reader_for(folder).preview(folder)
    assert seen is not None and any("sections_by: image, for each of the 2 images" in need for need in seen["needs"])


def test_many_images_are_guarded_as_two_are(cells: Cells, tmp_path: Path) -> None:
    parts = [quantification(cells).assign(ImageName=f"roi{i}") for i in range(120)]
    path = save(pd.concat(parts), tmp_path / "objects.csv")
    with pytest.raises(ReadError, match=r"120 images, of which 'roi\d+' and 'roi\d+' lie on top"):
        read(path, um_per_unit=UM)


def test_fields_of_one_scan_are_one_section_and_images_beside_each_other_are_doubted(
    cells: Cells, tmp_path: Path
) -> None:
    for column, doubted in (("fov", False), ("ImageName", True)):
        path = save(quantification(cells).assign(**{column: cells.field_number}), tmp_path / f"{column}.csv")
        with doubts_heard() as doubts:
            section = read(path, um_per_unit=UM)
        assert len(section["cell"]) == 80
        assert any("2 images (column 'ImageName') as one section" in doubt for doubt in doubts) == doubted


def test_the_published_table_of_three_images(data_dir: Path) -> None:
    path = data_dir / "imc-pancreas" / "images" / "pancreasSCE_cells.csv"
    table = pd.read_csv(path, index_col=0)
    with pytest.raises(
        ReadError, match=r"layer: expected one, .*5 of 'counts' and 5 of 'exprs'[\s\S]*um_per_unit"
    ) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 2
    parts = reader_for(path, layer="counts", um_per_unit=1, label="CellType").read_by(path, ("ImageName",))
    assert {name: len(part["cell"]) for name, part in parts.items()} == dict(table.groupby("ImageName").size())
    one, rows = parts["G01_imc.tiff"], table[table["ImageName"] == "G01_imc.tiff"]
    assert list(one["cell"].index) == list(rows.index) and list(one["cell"]["label"]) == list(rows["CellType"])
    np.testing.assert_allclose(positions_um(one, "cell"), rows[["Pos_X", "Pos_Y"]])
    np.testing.assert_allclose(diameters_um(one, "cell"), 2 * np.sqrt(rows["Area"] / np.pi))
    markers = ["H3", "CD99", "PIN", "CD8a", "CDH"]
    np.testing.assert_allclose(
        one["cell_intensity"].to_df()[markers], rows[[f"counts_{m}" for m in markers]], rtol=1e-6
    )
    with pytest.raises(ReadError, match=r"no layer named 'count'; did you mean 'counts'"):
        read(path, layer="count", um_per_unit=1)


def test_named_columns_and_those_of_codex(cells: Cells, tmp_path: Path) -> None:
    table = intensities(cells).rename(columns=lambda name: f"cyc001_ch001:{name}")
    table.insert(0, "cell_id:cell_id", np.arange(len(cells)))
    table[["X:X", "Y:Y"]], table["size:size"], table["tile_nr:tile_nr"] = cells.xy_um / 0.377, 300, 1
    section = read(save(table, tmp_path / "codex.csv"), um_per_unit=0.377)
    assert section["cell_intensity"].n_vars == len(MARKERS)
    named = intensities(cells).assign(x=cells.xy_um[:, 0], y=cells.xy_um[:, 1], cell=np.arange(len(cells)), score=0.5)
    path = save(named, tmp_path / "own.csv")
    options = {"reader": "intensity_table", "x": "x", "y": "y", "um_per_unit": 1, "diameter_um": 9}
    assert list(read(path, ignore=("score",), **options)["cell_intensity"].var_names) == list(MARKERS)
    assert list(read(path, markers=("CD8", "CD3"), **options)["cell_intensity"].var_names) == ["CD8", "CD3"]


def test_faulty_tables_are_named(cells: Cells, path: Path, tmp_path: Path) -> None:
    table = quantification(cells)
    faults = [
        (table.assign(CellID=1), r"'1' twice.*name the column that tells them apart as `image:`"),
        (table.assign(CD3=np.nan), r"80 values that are NaN or infinite, first in '1', 'CD3'"),
        (
            table.assign(CellID=[f"{2.667026e18 + i:.6e}" for i in range(80)]),
            r"written as floats: their last digits are lo",
        ),
        (
            table.assign(X_centroid=["?", *table["X_centroid"][1:]]),
            r"column 'X_centroid': .*numbers.*found '\?' in row 1",
        ),
        (table.drop(columns="Area"), r"neither `area:` nor `diameter_um:`"),
    ]
    for faulty, why in faults:
        with pytest.raises(AivcError, match=why):
            read(save(faulty, path), um_per_unit=UM)
    with pytest.raises(AivcError, match=r"median nearest-neighbour distance of 0\.0\d+ µm"):
        read(save(table, path), um_per_unit=0.001)
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[:-400])
    with pytest.raises(ReadError, match=r"cells.csv: a damaged table"):
        read(path, um_per_unit=UM)
    folder = write_steinbock(cells, tmp_path / "s", images=("A",))
    save(pd.read_csv(folder / "regionprops" / "A.csv").iloc[5:], folder / "regionprops" / "A.csv")
    with pytest.raises(ReadError, match=r"A.csv: expected one of each, found no place of 5 of 80 objects"):
        read(folder, um_per_unit=1)
    save(pd.read_csv(folder / "intensities" / "A.csv").assign(Object=7), folder / "intensities" / "A.csv")
    with pytest.raises(ReadError, match=r"intensities/A.csv: expected each once, found object '7' twice"):
        read(folder, um_per_unit=1)
    (folder / "regionprops" / "A.csv").unlink()
    save(intensities(cells).assign(Object=1), folder / "regionprops" / "B.csv")
    with pytest.raises(ReadError, match=r"regionprops/A.csv: no such file"):
        read(folder, um_per_unit=1)


def test_other_panels_in_one_folder_are_refused(cells: Cells, tmp_path: Path) -> None:
    folder = write_mcmicro(cells, tmp_path / "m", samples=("a", "b"))
    other = quantification(cells).rename(columns={"CD8": "CD20"})
    save(other, folder / "quantification" / "b--unmicst_cell.csv")
    with pytest.raises(ReadError, match=r"other columns than in a--unmicst_cell: CD20, CD8"):
        read(folder)


def test_no_other_reader_takes_it(cells: Cells, path: Path, tmp_path: Path) -> None:
    wide = quantification(cells).assign(**{f"M{i}": 0.5 for i in range(40)})
    for one in (
        path,
        save(wide, tmp_path / "wide.csv"),
        write_mcmicro(cells, tmp_path / "m"),
        write_steinbock(cells, tmp_path / "s"),
    ):
        assert [name for name in READERS if READERS[name].recognises(one)] == ["intensity_table"], one


@pytest.mark.parametrize(("factor", "told"), [(1, True), (100, False), (0.37, False)])
def test_small_whole_numbers_are_doubted_to_be_intensities(
    cells: Cells, tmp_path: Path, factor: float, told: bool
) -> None:
    """Counts of molecules in a table laid out as one of intensities."""
    table = quantification(cells)
    table[list(MARKERS)] = cells.counts[:, : len(MARKERS)] * factor
    with doubts_heard() as doubts:
        read(save(table, tmp_path / "cells.csv"), um_per_unit=UM)
    assert any("as counts of molecules are; if they are counts" in one for one in doubts) == told
