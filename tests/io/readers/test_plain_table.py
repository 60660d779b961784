"""Plain tables of counts: real ones, and every way a table can mislead."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.io.reading import read
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import diameters_um, native_positions, positions_um
from aivc_graph.tissue.schema import spacing_um

OPTIONS: dict[str, Any] = {"reader": "plain_table", "level": "cell", "um_per_unit": 2.0, "diameter_um": 8.0}


@pytest.fixture
def frame() -> pd.DataFrame:
    """Nine cells 5 units apart with two genes."""
    x, y = (5.0 * v.ravel() for v in np.meshgrid(np.arange(3), np.arange(3)))
    number = np.arange(9)
    return pd.DataFrame({"barcode": [f"c{i}-1" for i in number], "x": x, "y": y, "A": number, "B": number % 2})


def _write(frame: pd.DataFrame, path: Path, **options: Any) -> Path:
    frame.to_csv(path, index=False, **options)
    return path


def test_one_table_holds_counts_and_positions(frame: pd.DataFrame, tmp_path: Path) -> None:
    section = read(_write(frame, tmp_path / "t.csv"), **OPTIONS)
    assert spacing_um(positions_um(section, "cell")) == 10
    assert diameters_um(section, "cell") == pytest.approx(8)
    assert section.tables["cell_rna"].to_df()["A"].tolist() == list(range(9))


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "no ending", "parquet"])
def test_the_ending_of_the_name_decides_nothing(frame: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        text = frame.to_csv(index=False, sep="\t" if kind == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    assert read(path, **OPTIONS).tables["cell_rna"].to_df()["A"].sum() == 36


def test_rows_in_another_order_join_by_barcode(frame: pd.DataFrame, tmp_path: Path) -> None:
    counts = _write(frame[["barcode", "A", "B"]].sample(frac=1, random_state=1), tmp_path / "counts.csv")
    places = _write(frame[["barcode", "x", "y"]], tmp_path / "places.csv")
    section = read(counts, positions=places, **OPTIONS)
    table = section.tables["cell_rna"].to_df()
    assert [int(name[1:-2]) for name in table.index] == table["A"].tolist()
    assert native_positions(section, "cell")[4] == pytest.approx([5, 5])


def test_genes_may_be_rows(frame: pd.DataFrame, tmp_path: Path) -> None:
    places = _write(frame[["barcode", "x", "y"]], tmp_path / "places.csv")
    frame.set_index("barcode")[["A", "B"]].T.to_csv(tmp_path / "counts.csv")
    section = read(tmp_path / "counts.csv", positions=places, transpose=True, **OPTIONS)
    assert section.tables["cell_rna"].to_df()["A"].sum() == 36
    with pytest.raises(ReadError, match=r"transpose: expected positions"):
        read(_write(frame, tmp_path / "t.csv"), transpose=True, **OPTIONS)


def test_annotation_comes_from_either_table(frame: pd.DataFrame, tmp_path: Path) -> None:
    counts = _write(frame.assign(label=["NA", *"abcdefgh"])[::-1].drop(columns=["x", "y"]), tmp_path / "counts.csv")
    places = _write(frame[["barcode", "x", "y"]].assign(area=50.0, fov=range(9)), tmp_path / "places.csv")
    options = {k: v for k, v in OPTIONS.items() if k != "diameter_um"}
    section = read(counts, positions=places, columns=["fov", "label"], area="area", **options)
    cells = section.shapes["cell"]
    assert cells["fov"].tolist() == list(range(9)) and cells["label"].tolist()[1:] == list("abcdefgh")
    assert pd.isna(cells["label"].iloc[0])
    assert diameters_um(section, "cell") == pytest.approx(2 * np.sqrt(50 / np.pi))


def test_scale_and_size_are_asked_for(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = _write(frame, tmp_path / "t.csv")
    with pytest.raises(ReadError, match=r"neighbours are 5 units apart\); give `um_per_unit:`, 1 if they are microns"):
        read(path, reader="plain_table", level="cell", diameter_um=8)
    with pytest.raises(ReadError, match=r"neither `area:` nor `diameter_um:`"):
        read(path, reader="plain_table", level="cell", um_per_unit=2)
    with pytest.raises(ReadError, match=r"(?s)level: expected cell or patch.*5 units apart.*neither `area:` nor `diam"):
        read(path, reader="plain_table")
    with pytest.raises(TissueError, match=r"are the positions in pixels\? give the right `um_per_unit`"):
        read(path, **{**OPTIONS, "um_per_unit": 1000.0})


def test_columns_that_are_no_counts_are_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    more = frame.assign(note="text")
    with pytest.raises(
        ReadError, match=r"found 1 columns that are not numbers: 'note'; list annotation under `columns:`"
    ):
        read(_write(more, tmp_path / "t.csv"), **OPTIONS)
    assert read(tmp_path / "t.csv", ignore=["note"], **OPTIONS).tables["cell_rna"].n_vars == 2
    with pytest.raises(ReadError, match=r"1 of 3 columns with values that are not whole: 'lamin_nm'; list them"):
        read(_write(frame.assign(lamin_nm=0.5), tmp_path / "t.csv"), **OPTIONS)
    with doubts_heard() as doubts:
        section = read(_write(frame.assign(nucleus_area=0.5), tmp_path / "t.csv"), **OPTIONS)
    assert section.tables["cell_rna"].n_vars == 2 and any("annotation: nucleus_area" in one for one in doubts)


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.inf, "values that are NaN or infinite"), (None, "values that are NaN or infinite"), (-1, "negative values")],
)
def test_bad_counts_name_gene_and_cell(frame: pd.DataFrame, tmp_path: Path, value: Any, found: str) -> None:
    bad = frame.astype({"B": object})
    bad.loc[3, "B"] = value
    with pytest.raises(ReadError, match=f"1 {found}, first in 'c3-1', 'B'"):
        read(_write(bad, tmp_path / "t.csv"), **OPTIONS)


def test_logarithms_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame[["A", "B"]] = np.log1p(frame[["A", "B"]])
    with pytest.raises((ReadError, TissueError), match=r"values that are not whole"):
        read(_write(frame, tmp_path / "t.csv"), **OPTIONS)


def test_barcodes_twice_missing_or_different(frame: pd.DataFrame, tmp_path: Path) -> None:
    twice = frame.assign(barcode=["c0-1", "c0-1", *frame["barcode"][2:]])
    with pytest.raises(TissueError, match=r"1 duplicate barcodes, first 'c0-1'"):
        read(_write(twice, tmp_path / "t.csv"), **OPTIONS)
    with pytest.raises(ReadError, match=r"1 rows without a barcode, first row 2"):
        read(_write(frame.assign(barcode=["a", None, *"cdefghi"]), tmp_path / "t.csv"), **OPTIONS)
    places = _write(frame[["barcode", "x", "y"]], tmp_path / "places.csv")
    bare = frame.assign(barcode=frame["barcode"].str.removesuffix("-1")).drop(columns=["x", "y"])
    counts = _write(bare, tmp_path / "counts.csv")
    with pytest.raises(TissueError, match=r"9 of 9 barcodes without a position \(0.0% overlap\).*`strip_suffix: true`"):
        read(counts, positions=places, **OPTIONS)
    assert read(counts, positions=places, strip_suffix=True, **OPTIONS).tables["cell_rna"].n_obs == 9


def test_positions_are_checked(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(TissueError, match=r"1 positions that are NaN or infinite, first at 'c4-1'"):
        read(_write(frame.assign(x=frame["x"].where(frame.index != 4)), tmp_path / "t.csv"), **OPTIONS)
    with pytest.raises(ReadError, match=r"column 'x': expected numbers, found 'left' in row 1"):
        read(_write(frame.assign(x="left"), tmp_path / "t.csv"), **OPTIONS)
    with pytest.raises(ReadError, match=r"expected x and y, found columns barcode, u, v.*name them as `x:` and `y:`"):
        read(_write(frame.rename(columns={"x": "u", "y": "v"}), tmp_path / "t.csv"), **OPTIONS)
    assert read(tmp_path / "t.csv", x="u", y="v", **OPTIONS).tables["cell_rna"].n_vars == 2
    with pytest.raises(ReadError, match=r"no column named 'w'"):
        read(tmp_path / "t.csv", x="u", y="w", **OPTIONS)


def test_a_position_that_stands_there_twice_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"expected one, found two columns named 'x'"):
        read(_write(frame.assign(z=1).rename(columns={"z": "x"}), tmp_path / "t.csv"), **OPTIONS)


def test_one_cell_is_a_section(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert read(_write(frame[:1], tmp_path / "t.csv"), **OPTIONS).tables["cell_rna"].shape == (1, 2)


def test_missing_empty_and_damaged_files_are_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = _write(frame, tmp_path / "t.csv")
    with pytest.raises(ReadError, match=r"nowhere.csv: no such file"):
        read(path, positions=tmp_path / "nowhere.csv", **OPTIONS)
    with pytest.raises(ReadError, match=r"a header without rows"):
        read(_write(frame[:0], tmp_path / "empty.csv"), **OPTIONS)
    data = gzip.compress(path.read_bytes() * 50)
    (tmp_path / "cut.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"cut.csv.gz"):
        read(tmp_path / "cut.csv.gz", **OPTIONS)
    (tmp_path / "ragged.csv").write_text("barcode,x,y,A\na,1,2,3\nb,1,2,3,4,5\n")
    with pytest.raises(ReadError, match=r"ragged.csv: a damaged table"):
        read(tmp_path / "ragged.csv", **OPTIONS)


def test_symbols_twice_are_added_up_or_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = _write(frame.set_axis(["barcode", "x", "y", "A", "A"], axis=1), tmp_path / "t.csv")
    table = read(path, **OPTIONS).tables["cell_rna"]
    assert table.to_df()["A"].tolist() == [i + i % 2 for i in range(9)]
    assert list(table.uns["genes"]["summed"]) == ["A"]
    with pytest.raises(ReadError, match=r"1 symbols that stand for several columns: 'A'; set `duplicates: sum`"):
        read(path, duplicates="refuse", **OPTIONS)


def test_the_breast_window_has_cells_and_spots_in_one_frame(data_dir: Path) -> None:
    folder = data_dir / "xenium-visium-breast"
    cells = read(
        folder / "xenium_pikachu.csv.gz",
        level="cell",
        um_per_unit=100 / 16.9,
        area="cell_area",
        columns=("nucleus_area",),
    )
    spots = read(folder / "visium_eevee.csv.gz", level="patch", um_per_unit=100 / 16.9, diameter_um=55)
    assert cells.tables["cell_rna"].shape == (17136, 313)
    assert spots.tables["patch_rna"].shape == (709, 18085)
    assert spacing_um(positions_um(spots, "patch")) == pytest.approx(100, rel=0.01)
    low, high = (positions_um(cells, "cell").min(axis=0), positions_um(cells, "cell").max(axis=0))
    inside = ((positions_um(spots, "patch") > low) & (positions_um(spots, "patch") < high)).all(axis=1)
    assert inside.mean() > 0.95
    assert cells.shapes["cell"].loc["6032", "nucleus_area"] == pytest.approx(66.876, abs=0.01)


def test_metadata_lie_in_a_table_of_their_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Joined by barcode, whatever its order; what both tables hold is that of the positions."""
    counts = _write(frame[["barcode", "A", "B"]], tmp_path / "counts.csv")
    places = _write(frame[["barcode", "x", "y"]].assign(kind="of places"), tmp_path / "places.csv")
    known = frame[["barcode"]].assign(kind="other", sort=list("ttbbttbbt"), size=np.arange(9.0) + 1)
    known = pd.concat([known[::-1], known.assign(barcode="none", sort="z")]).drop_duplicates("barcode")
    beside = _write(known, tmp_path / "metadata.csv")
    options = {**OPTIONS, "positions": places, "metadata": beside, "label": "sort", "columns": ("kind",)}
    section = read(counts, **options, keep={"sort": "t"})
    shapes = section.shapes["cell"]
    assert shapes.index.tolist() == ["c0-1", "c1-1", "c4-1", "c5-1", "c8-1"] and set(shapes["label"]) == {"t"}
    assert set(shapes["kind"]) == {"of places"}
    with pytest.raises(ReadError, match="'sorts'"):
        read(counts, **{**options, "label": "sorts"})
