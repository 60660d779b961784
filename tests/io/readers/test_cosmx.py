"""CosMx flat files: every field in one frame, what lies in no cell left out, several slides told apart, and faults."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.reading import READERS, read, reader_for, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um
from tests.vendor_folders import GENES, Cells, numbers_in_fields, some_cells, write_cosmx


@pytest.fixture
def cells() -> Cells:
    return some_cells()


@pytest.fixture
def folder(cells: Cells, tmp_path: Path) -> Path:
    return write_cosmx(cells, tmp_path / "slide")


def edit(folder: Path, kind: str, change: object, slide: str = "S1") -> None:
    path = next(path for path in folder.iterdir() if kind in path.name and path.name.startswith(slide))
    changed = change(pd.read_csv(path, dtype={"cell_ID": str}))
    changed.to_csv(path, index=False)


@pytest.mark.parametrize("packed", [False, True])
def test_all_fields_are_one_section_in_microns(cells: Cells, tmp_path: Path, packed: bool) -> None:
    folder = write_cosmx(cells, tmp_path / "slide", packed=packed)
    assert recognise(folder) == "cosmx"
    with doubts_heard() as doubts:
        section = read(folder)
    assert section.attrs["aivc"] == {"section": "slide", "platform": "CosMx"}
    assert list(section["cell"].index[:2]) == ["1_1", "1_2"] and len(section["cell"]) == len(cells)
    np.testing.assert_allclose(positions_um(section, "cell"), cells.xy_um, rtol=1e-6)
    np.testing.assert_allclose(diameters_um(section, "cell"), 2 * np.sqrt(cells.area_um2 / np.pi), rtol=1e-6)
    table = section["cell_rna"]
    assert list(table.var_names) == list(GENES) and table.uns["genes"]["dropped_controls"] == 2
    np.testing.assert_array_equal(table.X.toarray(), cells.counts)
    assert len(doubts) == 1 and "168 counts of 2 fields lie in no cell (cell_ID 0) and are left out" in doubts[0]


def test_outlines_and_transcripts_share_the_frame(cells: Cells, folder: Path) -> None:
    section = read(folder)
    outlines = section["cell_outlines"]
    assert list(outlines.index) == list(section["cell"].index)
    np.testing.assert_allclose(outlines.area * 0.12028**2, cells.area_um2, rtol=1e-4)
    np.testing.assert_allclose(affine_of(section, "cell_outlines"), affine_of(section, "cell"))
    molecules = section["transcripts"].compute()
    assert len(molecules) == len(cells) - 1 and set(molecules["gene"]) == {GENES[0]}
    named = [f"{f}_{n}" for f, n in zip(cells.field_number, numbers_in_fields(cells), strict=True)]
    assert list(molecules["cell"]) == ["", "", *named[3:]]
    np.testing.assert_allclose(molecules["x"] * 0.12028, np.delete(cells.xy_um[:, 0], 2), rtol=1e-4)
    plain = read(folder, outlines=False, transcripts=False)
    assert "cell_outlines" not in plain and "transcripts" not in plain


def test_the_scale_is_the_files_or_the_users_or_told(cells: Cells, tmp_path: Path, folder: Path) -> None:
    edit(folder, "fov_positions", lambda t: t.assign(x_global_mm=2 * t["x_global_mm"]))
    assert affine_of(read(folder), "cell")[0, 0] == pytest.approx(2 * 0.12028)
    assert affine_of(read(folder, um_per_unit=0.18), "cell")[0, 0] == 0.18
    unstated = write_cosmx(cells, tmp_path / "unstated", mm=False)
    with doubts_heard() as doubts:
        assert affine_of(read(unstated), "cell")[0, 0] == 0.12028
    assert any("no file states it; 0.12028 µm a pixel is taken" in doubt for doubt in doubts)
    edit(unstated, "metadata", lambda t: t.assign(CenterX_local_px=t["CenterX_local_px"] + 5000))
    with doubts_heard() as doubts:
        read(unstated)
    assert any("as those of the first instruments (0.18 µm a pixel) were" in doubt for doubt in doubts)


def test_the_vendors_small_slide(data_dir: Path) -> None:
    folder = data_dir / "vendor-formats" / "mini-imaging" / "CosMx_small"
    section = read(folder, um_per_unit=0.18)
    np.testing.assert_allclose(positions_um(section, "cell")[0], [25423.7777777778 * 0.18, 162475.666666667 * 0.18])
    assert section["cell_rna"].shape == (9, 8) and list(section["cell"].index)[:2] == ["10_1", "10_2"]
    np.testing.assert_allclose(diameters_um(section, "cell")[0], 2 * 0.18 * np.sqrt(5836 / np.pi))


def test_labels_and_kept_rows_are_those_of_the_metadata(cells: Cells, folder: Path) -> None:
    section = read(folder, label="niche", keep={"fov": 2}, columns=("nCount_RNA",))
    assert len(section["cell"]) == (cells.field_number == 2).sum() and set(section["cell"]["label"]) == {"right"}
    assert list(section["cell"]["nCount_RNA"]) == list(cells.counts.sum(axis=1)[cells.field_number == 2])


def test_several_slides_in_a_folder_are_chosen_or_told_apart(cells: Cells, folder: Path) -> None:
    other = some_cells(60, seed=1)
    write_cosmx(other, folder, "S2")
    with pytest.raises(ReadError, match=r"files of 2 slides: S1, S2; choose one by `slide: S1`.*sections_by: slide"):
        read(folder)
    with pytest.raises(ReadError, match=r"no slide named 'S3'.*known: S1, S2"):
        read(folder, slide="S3")
    assert len(read(folder, slide="S2")["cell"]) == 60
    for by in ("slide", "slide_ID"):
        parts = reader_for(folder).read_by(folder, (by,))
        assert {name: len(part["cell"]) for name, part in parts.items()} == {"S1": 80, "S2": 60}
        np.testing.assert_array_equal(parts["S2"]["cell_rna"].X.toarray(), other.counts)
        assert len(parts["S2"]["cell_outlines"]) == 60
    with pytest.raises(ReadError, match=r"a second '1'; name `slide` in `sections_by:` too"):
        reader_for(folder).read_by(folder, ("fov",))


def test_files_are_known_by_their_columns(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"table {hash_free(path.name)}.csv"))
    assert recognise(folder) == "cosmx" and len(read(folder)["cell_outlines"]) == 80


def hash_free(name: str) -> int:
    return sum(map(ord, name))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "S1_metadata_file.csv").unlink()
    assert recognise(folder) == "cosmx"
    with pytest.raises(ReadError, match=r"expected …_metadata_file.csv, found S1-polygons.csv, S1_exprMat_file.csv"):
        read(folder)


def test_a_file_cut_off_is_named(cells: Cells, tmp_path: Path) -> None:
    folder = write_cosmx(cells, tmp_path / "slide", packed=True)
    whole = (folder / "S1_exprMat_file.csv.gz").read_bytes()
    (folder / "S1_exprMat_file.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"S1_exprMat_file.csv.gz: a damaged table"):
        read(folder)
    text = gzip.decompress(whole)
    (folder / "S1_exprMat_file.csv.gz").write_bytes(text[: len(text) - 12])
    with pytest.raises(AivcError, match=r"NaN or infinite, first in '2_\d+', 'G"):
        read(folder)


def test_counts_of_another_slide_are_doubted(cells: Cells, folder: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(cells))
    other = Cells(cells.xy_um, cells.area_um2, cells.field_number, cells.counts[order])
    write_cosmx(other, tmp_path / "other", "T1")
    (folder / "S1_exprMat_file.csv").unlink()
    shutil.copy(tmp_path / "other" / "T1_exprMat_file.csv", folder)
    with doubts_heard() as doubts:
        read(folder)
    said = "\n".join(doubts)
    assert "T1_exprMat_file.csv beside S1_metadata_file.csv" in said
    assert "correlate with 'nCount_RNA' of the list of cells at r = " in said


def test_names_through_floats_are_told_apart_or_refused(cells: Cells, folder: Path) -> None:
    edit(folder, "metadata", lambda t: t.assign(cell_ID=t["cell_ID"] + ".0", fov=t["fov"].astype(float)))
    assert list(read(folder)["cell"].index[:2]) == ["1_1", "1_2"]
    edit(folder, "metadata", lambda t: pd.concat([t, t.assign(slide_ID="S9")]))
    with pytest.raises(ReadError, match=r"cell 1.0 of field 1.0 twice.*columns that tell: slide_ID"):
        read(folder)


def test_two_slides_in_one_table_part_by_a_column_both_have(cells: Cells, folder: Path) -> None:
    def twice(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table.assign(slide_ID="A"), table.assign(slide_ID="B")])

    edit(folder, "exprMat", twice)
    edit(folder, "metadata", twice)
    parts = reader_for(folder, outlines=False, transcripts=False).read_by(folder, ("slide_ID",))
    assert {name: len(part["cell"]) for name, part in parts.items()} == {"A": 80, "B": 80}
    assert parts["B"]["cell"].index[0] == "B_1_1"


def test_fields_in_frames_of_their_own_are_refused(folder: Path) -> None:
    edit(folder, "metadata", lambda t: t.drop(columns=["CenterX_global_px", "CenterY_global_px"]))
    with pytest.raises(ReadError, match=r"CenterX_local_px, CenterY_local_px of 2 fields, each in a frame of its own"):
        read(folder)


def test_wrong_units_are_refused(folder: Path) -> None:
    with pytest.raises(AivcError, match=r"median nearest-neighbour distance of 0\.\d+ µm"):
        read(folder, um_per_unit=0.00012028)


def test_counts_that_are_logs_and_lost_columns_are_named(folder: Path) -> None:
    edit(folder, "exprMat", lambda t: t.assign(G01=np.log1p(t["G01"])))
    with pytest.raises(AivcError, match=r"values that are not whole, first in '1_\d+', 'G01'"):
        read(folder)
    edit(folder, "metadata", lambda t: t.drop(columns="Area"))
    with pytest.raises(ReadError, match=r"neither `area:` nor `diameter_um:`"):
        read(folder)


def test_no_other_reader_takes_it(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        claims = [name for name in READERS if READERS[name].recognises(path)]
        assert claims == (["cosmx"] if path == folder else []), path


def test_molecules_are_read_in_parts_and_damage_is_named(
    cells: Cells, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(folder)["transcripts"].compute()
    monkeypatch.setattr("aivc_graph.io.molecules._BLOCK_BYTES", 700)
    section = read(folder)
    assert section["transcripts"].npartitions > 5
    pd.testing.assert_frame_equal(section["transcripts"].compute().reset_index(drop=True), whole.reset_index(drop=True))
    with (folder / "S1_tx_file.csv").open("a") as file:
        file.write('1,2,"G00\n')
    with pytest.raises(ReadError, match=r"S1_tx_file.csv: a damaged list of transcripts"):
        read(folder)["transcripts"].compute()


def test_slides_in_folders_of_their_own(cells: Cells, tmp_path: Path) -> None:
    for name in ("Lung5", "Lung6"):
        write_cosmx(cells, tmp_path / name, "flat")
    assert recognise(tmp_path) == "cosmx"
    with pytest.raises(ReadError, match=r"files of 2 slides: Lung5, Lung6"):
        read(tmp_path)
    assert len(read(tmp_path, slide="Lung6")["cell_outlines"]) == 80
    assert list(reader_for(tmp_path).read_by(tmp_path, ("slide",))) == ["Lung5", "Lung6"]
    (tmp_path / "other").mkdir()
    assert not [name for name in READERS if READERS[name].recognises(tmp_path)]
