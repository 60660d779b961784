"""Legacy Spatial Transcriptomics: real arrays, and files that do not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.io.reading import read
from aivc_graph.tissue.frame import affine_of, native_positions, positions_um
from aivc_graph.tissue.schema import spacing_um


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """A count table of 12 spots (3 genes), a spot file at 0.5 µm a pixel in another order, and labels with decimals."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(5, 9), np.arange(10, 13)))
    frame = pd.DataFrame({"A": x, "B": y, "C": 0}, index=[f"{i}x{j}" for i, j in zip(x, y, strict=True)])
    frame.to_csv(tmp_path / "counts.tsv", sep="\t")
    spots = pd.DataFrame({"x": x, "y": y, "pixel_x": x * 400 + 7, "pixel_y": y * 400 - 3, "selected": 1})
    spots[::-1].to_csv(tmp_path / "spots.tsv", sep="\t", index=False)
    labels = pd.DataFrame({"x": x + 0.03, "y": y - 0.02, "label": [f"L{i}" for i in x]})
    labels.loc[2, ["x", "y"]] = np.nan
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    return tmp_path / "counts.tsv"


def test_positions_are_pixels_and_scale_comes_from_the_array(array: Path) -> None:
    section = read(array, positions=array.with_name("spots.tsv"))
    assert affine_of(section, "patch")[0, 0] == pytest.approx(0.5)
    nodes = section.shapes["patch"].index
    assert native_positions(section, "patch")[list(nodes).index("6x11")] == pytest.approx([2407, 4397])
    table = section.tables["patch_rna"].to_df()
    assert table.loc["6x11"].tolist() == [6, 11, 0]


def test_without_spot_file_the_array_is_the_frame(array: Path) -> None:
    section = read(array)
    assert spacing_um(positions_um(section, "patch")) == pytest.approx(200)
    assert spacing_um(positions_um(read(array, pitch_um=100), "patch")) == pytest.approx(100)


def test_labels_join_by_rounding_and_lost_rows_are_counted(array: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        patches = read(array, labels=array.with_name("labels.tsv")).shapes["patch"]
    assert patches.loc["8x12", "label"] == "L8"
    assert patches["label"].isna().sum() == 1
    assert "1 rows without a place are left out" in caplog.text


def test_labels_of_another_section_are_refused(array: Path) -> None:
    path = array.with_name("labels.tsv")
    pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "label": "a"}).to_csv(path, sep="\t", index=False)
    with pytest.raises(ReadError, match=r"found 2 of 2 labels at no patch, first '1x1'"):
        read(array, labels=path)
    pd.DataFrame({"x": [5.1, 4.9], "y": [10.0, 10.0], "label": ["a", "b"]}).to_csv(path, sep="\t", index=False)
    with pytest.raises(ReadError, match=r"1 spots with two labels, first '5x10'"):
        read(array, labels=path)


def test_coordinates_must_agree_with_the_names(array: Path) -> None:
    path = array.with_name("coor.csv")
    x, y = (v.ravel() for v in np.meshgrid(np.arange(5, 9), np.arange(10, 13)))
    np.savetxt(path, np.column_stack([x, y]), delimiter=",")
    assert len(read(array, coordinates=path).shapes["patch"]) == 12
    np.savetxt(path, np.column_stack([x, y])[::-1], delimiter=",")
    with pytest.raises(
        ReadError, match=r"12 of 12 rows elsewhere, first '5x10' at \[8.0, 12.0\]; are the rows in another"
    ):
        read(array, coordinates=path)
    np.savetxt(path, np.column_stack([x, y])[:3], delimiter=",")
    with pytest.raises(ReadError, match=r"expected x, y of 12 rows, found 3 × 2 values"):
        read(array, coordinates=path)


def test_the_spot_file_of_another_section_is_refused(array: Path) -> None:
    path = array.with_name("spots.tsv")
    spots = pd.read_csv(path, sep="\t")
    spots.assign(y=spots["y"] + 20).to_csv(path, sep="\t", index=False)
    with pytest.raises(TissueError, match=r"12 of 12 barcodes without a position.*belong to this section"):
        read(array, positions=path)
    spots.drop(columns="pixel_x").to_csv(path, sep="\t", index=False)
    with pytest.raises(ReadError, match=r"no column named 'pixel_x'; did you mean 'pixel_y'"):
        read(array, positions=path)
    shuffled = spots.assign(pixel_x=np.random.default_rng(0).permutation(spots["pixel_x"]))
    shuffled.to_csv(path, sep="\t", index=False)
    with pytest.raises(ReadError, match=r"expected equal axes|off their array"):
        read(array, positions=path)
    spots[:1].to_csv(path, sep="\t", index=False)
    with pytest.raises(ReadError, match=r"um_per_unit: expected the microns per unit"):
        read(array, positions=path)


def test_rows_that_are_no_places_are_refused(array: Path) -> None:
    array.write_text(array.read_text().replace("7x12", "spot7"))
    with pytest.raises(ReadError, match=r"expected rows named <x>x<y>, found 1 rows that are not, first 'spot7'"):
        read(array)


def test_bad_counts_name_gene_and_spot(array: Path) -> None:
    array.write_text(array.read_text().replace("6x11\t6", "6x11\t-6"))
    with pytest.raises(TissueError, match=r"1 negative values, first in '6x11', 'A'"):
        read(array)
    array.write_text(array.read_text().replace("6x11\t-6", "6x11\t"))
    with pytest.raises(TissueError, match=r"1 values that are NaN or infinite, first in '6x11', 'A'"):
        read(array)


def test_a_picture_is_placed_and_painted_over(array: Path) -> None:
    from imagecodecs import png_encode

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[2:10, 40:58] = 255
    path = array.with_name("slide.png")
    path.write_bytes(png_encode(pixels))
    blank = [[35, 0, 60, 12]]
    section = read(array, positions=array.with_name("spots.tsv"), slide=path, slide_scale=0.1, blank=blank)
    assert affine_of(section, "slide")[0, 0] == pytest.approx(5.0)
    assert section["slide"].data.compute().max() == 0
    with pytest.raises(
        ReadError, match=r"blank: expected \[x0, y0, x1, y1\] within 60 × 40 px, found \[35, 0, 90, 12\]"
    ):
        read(array, positions=array.with_name("spots.tsv"), slide=path, blank=[[35, 0, 90, 12]])
    with pytest.raises(ReadError, match=r"give it as `positions:`"):
        read(array, slide=path)


def test_her2st_has_its_published_labels_and_hides_its_thumbnail(data_dir: Path) -> None:
    her2st = data_dir / "her2st"
    section = read(
        her2st / "ST-cnts" / "A1.tsv.gz",
        positions=her2st / "ST-spotfiles" / "A1_selection.tsv",
        labels=her2st / "ST-pat-lbl" / "A1_labeled_coordinates.tsv",
        slide=her2st / "ST-imgs-masked2000px" / "A1_HE_image_dark.png",
        slide_scale=2000 / 6954,
        blank=[[1500, 0, 2000, 540]],
    )
    assert section.tables["patch_rna"].shape == (346, 15045)
    labels = section.shapes["patch"].loc[section.tables["patch_rna"].obs_names, "label"].value_counts()
    assert labels.drop("undetermined").to_dict() == {
        "invasive cancer": 282,
        "connective tissue": 24,
        "cancer in situ": 21,
        "adipose tissue": 12,
        "immune infiltrate": 2,
    }
    pixels = section["slide"].data.compute()
    assert pixels.shape == (3, 2138, 2000)
    assert pixels[:, :540, 1500:].max() == 0 and pixels[:, 540:].max() > 200
    inside = native_positions(section, "patch") * 2000 / 6954
    assert pixels[:, inside[:, 1].astype(int), inside[:, 0].astype(int)].max(axis=0).mean() > 100


@pytest.mark.parametrize("name", ["B4", "G2"])
def test_her2st_arrays_have_one_scale(data_dir: Path, name: str) -> None:
    her2st = data_dir / "her2st"
    section = read(her2st / "ST-cnts" / f"{name}.tsv.gz", positions=her2st / "ST-spotfiles" / f"{name}_selection.tsv")
    assert affine_of(section, "patch")[0, 0] == pytest.approx(0.688, abs=0.004)


@pytest.mark.parametrize(("name", "size"), [("slice1", (254, 7998)), ("slice4", (262, 7571))])
def test_adjacent_slices_are_read_on_their_arrays(data_dir: Path, name: str, size: tuple[int, int]) -> None:
    folder = data_dir / "st-breast-4slices"
    section = read(folder / f"{name}.csv.gz", coordinates=folder / f"{name}_coor.csv")
    assert section.tables["patch_rna"].shape == size
    assert 180 < spacing_um(positions_um(section, "patch")) < 205
