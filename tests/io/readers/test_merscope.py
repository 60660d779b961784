"""MERSCOPE regions: names of 19 digits, blanks, planes of focus, outlines of either kind, and faulty deliveries."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.reading import READERS, read, reader_for, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um
from tests.vendor_folders import GENES, Cells, merscope_ids, some_cells, write_merscope


@pytest.fixture
def cells() -> Cells:
    return some_cells()


@pytest.fixture
def folder(cells: Cells, tmp_path: Path) -> Path:
    return write_merscope(cells, tmp_path / "region_0")


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path, dtype={"cell": str, "EntityID": str})).to_csv(path, index=False)


def test_a_region_is_read_in_its_own_microns(cells: Cells, folder: Path) -> None:
    assert recognise(folder) == "merscope"
    section = read(folder)
    assert section.attrs["aivc"] == {"section": "region_0", "platform": "MERSCOPE"}
    assert list(section["cell"].index) == merscope_ids(cells)[::-1]
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um[::-1])
    table = section["cell_rna"]
    assert list(table.var_names) == list(GENES) and table.uns["genes"]["dropped_controls"] == 2
    np.testing.assert_array_equal(table[merscope_ids(cells)].X.toarray(), cells.counts)
    molecules = section["transcripts"].compute()
    assert len(molecules) == len(cells) - 1 and list(molecules["cell"][:2]) == ["", merscope_ids(cells)[2]]


@pytest.mark.parametrize("kind", ["parquet", "hdf5"])
def test_outlines_are_those_of_the_middle_plane_and_give_the_size(cells: Cells, tmp_path: Path, kind: str) -> None:
    with doubts_heard() as doubts:
        section = read(write_merscope(cells, tmp_path / "r", outlines=kind))
    assert len(doubts) == 1 and "outlines of plane 3 are taken, of the 7 from 0 to 6; 9 of 80 cells" in doubts[0]
    area = section["cell_outlines"].area[merscope_ids(cells)].to_numpy()
    middle = np.arange(len(cells)) % 9 != 0
    np.testing.assert_allclose(area[middle], cells.area_um2[middle], rtol=1e-5)
    np.testing.assert_allclose(area[~middle], cells.area_um2[~middle] * 0.7**2, rtol=1e-5)
    diameters = pd.Series(diameters_um(section, "cell"), section["cell"].index)[merscope_ids(cells)]
    np.testing.assert_allclose(diameters, 2 * np.sqrt(area / np.pi), rtol=1e-6)
    first = read(tmp_path / "r", plane=0)["cell_outlines"].area[merscope_ids(cells)]
    np.testing.assert_allclose(first, cells.area_um2 * 0.7**2, rtol=1e-5)
    with pytest.raises(ReadError, match=r"plane: expected one of 0, 1, 2, 3, 4, 5, 6, found 9"):
        read(tmp_path / "r", plane=9)


def test_without_outlines_the_volume_gives_the_size(cells: Cells, tmp_path: Path) -> None:
    folder = write_merscope(cells, tmp_path / "r", outlines="none")
    with doubts_heard() as doubts:
        section = read(folder, thickness_um=8)
    np.testing.assert_allclose(diameters_um(section, "cell")[::-1], 2 * np.sqrt(cells.area_um2 / np.pi))
    assert any("its volume over 8 µm of tissue" in doubt for doubt in doubts)
    edit(folder / "cell_metadata.csv", lambda t: t.drop(columns="volume"))
    with pytest.raises(ReadError, match=r"neither `area:` nor `diameter_um:`"):
        read(folder)
    assert diameters_um(read(folder, diameter_um=9), "cell") == pytest.approx(9)


def test_the_mosaic_is_placed_by_its_transform(folder: Path) -> None:
    placed = affine_of(read(folder, picture="images/mosaic_DAPI_z3.tif"), "slide")
    np.testing.assert_allclose(placed @ [9.25 * 500 - 4000, 9.25 * 400 - 3000, 1], [500, 400, 1])
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").write_text("1 0\n0 1\n")
    with pytest.raises(ReadError, match=r"a matrix of shape \(2, 2\)"):
        read(folder, picture="images/mosaic_DAPI_z3.tif")


def test_the_vendors_small_region(data_dir: Path) -> None:
    section = read(data_dir / "vendor-formats" / "mini-imaging" / "MERSCOPE_small")
    assert section["cell_rna"].shape == (8, 9)
    np.testing.assert_allclose(positions_um(section, "cell")[1], [12512.69579437, 10251.2253139026])
    np.testing.assert_allclose(diameters_um(section, "cell")[1], 2 * np.sqrt(42.4301051748758 / np.pi))


def test_a_column_parts_a_region(cells: Cells, folder: Path) -> None:
    parts = reader_for(folder).read_by(folder, ("region",))
    assert {name: len(part["cell_outlines"]) for name, part in parts.items()} == {"left": 45, "right": 35}
    assert len(read(folder, keep={"region": "right"})["cell"]) == 35


def test_names_that_went_through_floats_are_refused(cells: Cells, folder: Path) -> None:
    edit(folder / "cell_metadata.csv", lambda t: t.assign(EntityID=[f"{float(i):.12e}" for i in t["EntityID"]]))
    with pytest.raises(ReadError, match=r"'2\.667026000043e\+18' and others, written as floats: their last digits"):
        read(folder)
    table = pd.read_parquet(folder / "cell_boundaries.parquet").astype({"EntityID": float})
    table.to_parquet(folder / "cell_boundaries.parquet")
    write_merscope(cells, folder / "again", outlines="none")
    (folder / "cell_boundaries.parquet").rename(folder / "again" / "cell_boundaries.parquet")
    with pytest.raises(ReadError, match=r"held as floats: their last digits are lost"):
        read(folder / "again")


def test_a_missing_file_and_one_cut_off_are_named(folder: Path) -> None:
    whole = gzip.compress((folder / "cell_metadata.csv").read_bytes())
    (folder / "cell_metadata.csv").write_bytes(whole[:-200])
    with pytest.raises(ReadError, match=r"cell_metadata.csv: a damaged table"):
        read(folder)
    (folder / "cell_metadata.csv").unlink()
    with pytest.raises(ReadError, match=r"expected cell_metadata.csv, found cell_boundaries.parquet, cell_by_gene.csv"):
        read(folder)


def test_counts_of_another_region_are_refused_or_doubted(cells: Cells, folder: Path) -> None:
    edit(folder / "cell_by_gene.csv", lambda t: t.assign(cell=t["cell"].str.replace("^2", "3", regex=True)))
    with pytest.raises(AivcError, match=r"80 of 80 barcodes without a position"):
        read(folder)
    edit(
        folder / "cell_by_gene.csv", lambda t: t.assign(cell=np.random.default_rng(0).permutation(merscope_ids(cells)))
    )
    with doubts_heard() as doubts:
        read(folder)
    assert any("correlate with 'transcript_count' of the list of cells at r = " in doubt for doubt in doubts)


def test_outlines_and_centres_in_other_units_are_refused(folder: Path) -> None:
    edit(
        folder / "cell_metadata.csv", lambda t: t.assign(center_x=t["center_x"] / 0.108, center_y=t["center_y"] / 0.108)
    )
    with pytest.raises(AivcError, match=r"expected outlines around their nodes, found outlines .* µm off"):
        read(folder)
    edit(folder / "cell_metadata.csv", lambda t: t.assign(center_x=t["center_x"] / 1e4, center_y=t["center_y"] / 1e4))
    with pytest.raises(AivcError, match=r"median nearest-neighbour distance of 0\.0\d+ µm"):
        read(folder, outlines=False)


def test_damaged_outlines_are_named(folder: Path) -> None:
    table = pd.read_parquet(folder / "cell_boundaries.parquet")
    table.assign(Geometry=b"no geometry").to_parquet(folder / "cell_boundaries.parquet")
    with pytest.raises(ReadError, match=r"cell_boundaries.parquet · Geometry: expected outlines as WKB"):
        read(folder)


def test_no_other_reader_takes_it(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        claims = [name for name in READERS if READERS[name].recognises(path)]
        assert claims == (["merscope"] if path == folder else []), path
