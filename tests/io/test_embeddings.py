"""Embeddings computed elsewhere: every layout users have says the same, and joins as it should or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from aivc_graph.errors import ConfigError, ReadError, TissueError
from aivc_graph.io.embedding_files import read_embeddings
from aivc_graph.io.embeddings import EmbeddingTable, add_embeddings
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section

N, WIDTH, MPP = 12, 3, 0.5
VALUES = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)
BARCODES = np.array([f"SPOT{i:02d}-1" for i in range(N)])
# Centres in pixels of the full slide, as a Visium delivery states them.
XY = np.stack(np.meshgrid(np.arange(4) * 200.0, np.arange(3) * 200.0), -1).reshape(-1, 2) + 300
ORDER = np.random.default_rng(1).permutation(N)  # rows are in an order of their own


def section(name: str = "S1", slide: bool = True) -> Any:
    """Spots of 55 µm delivered in pixels, on a slide at half size."""
    made = new_section(name)
    add_level(made, "patch", BARCODES, XY, 55.0, scale_affine(MPP))
    if slide:
        add_slide(made, da.zeros((3, 700, 700), dtype=np.uint8), scale_affine(2 * MPP))
    return made


def hest(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["embeddings"], file["coords"] = VALUES[ORDER], XY[ORDER].astype(int)
        file["barcode"] = BARCODES[ORDER].astype("S")[:, None]
    return path


def clam(path: Path, edge: float = 64.0, **attributes: Any) -> Path:
    """Upper left corners of tiles in pixels of the slide, which is at half size."""
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = VALUES[ORDER], XY[ORDER] / 2 - edge / 2
        file["coords"].attrs.update(attributes)
    return path


def h5ad(path: Path, write: str = "write_h5ad") -> Path:
    obs = pd.DataFrame({"library": ["S1"] * 8 + ["S2"] * 4}, index=BARCODES)
    table = ad.AnnData(np.zeros((N, 2), np.float32), obs=obs, obsm={"novae": VALUES, "spatial": XY})
    getattr(table[ORDER].copy(), write)(path)
    return path


def npz(path: Path) -> Path:
    np.savez(path, features=VALUES[ORDER], barcodes=BARCODES[ORDER])
    return path.with_suffix(".npz")


def zarr_arrays(path: Path) -> Path:
    group = zarr.open_group(path, mode="w")
    group["embeddings"], group["coords"] = VALUES[ORDER][None], XY[ORDER]
    return path


def table(path: Path) -> Path:
    frame = pd.DataFrame(VALUES, BARCODES, [f"uni_{i}" for i in range(WIDTH)]).iloc[ORDER]
    frame = frame.rename_axis("barcode").reset_index()
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def placed(path: Path) -> Path:
    frame = pd.DataFrame(VALUES).add_prefix("f").assign(x=XY[:, 0] * MPP, y=XY[:, 1] * MPP)
    frame.iloc[ORDER].to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("write", "name", "options"),
    [
        (hest, "S1.h5", {}),
        (hest, "S1.h5", {"by": "position", "frame": "nodes"}),
        (clam, "S1.h5", {"frame": "slide", "tile": 64}),
        (lambda path: clam(path, patch_size=32, downsample=(2.0, 2.0)), "S1.h5", {"frame": "slide"}),
        (lambda path: clam(path, patch_size_level0=64), "S1.h5", {"frame": "slide"}),
        (h5ad, "S1.h5ad", {"key": "novae"}),
        (lambda path: h5ad(path, "write_zarr"), "S1.zarr", {"key": "novae"}),
        (npz, "S1", {}),
        (zarr_arrays, "S1.zarr", {"frame": "nodes", "tolerance": 20}),
        (table, "S1.parquet", {}),
        (table, "S1.csv", {}),
        (placed, "S1.csv", {"frame": "microns", "tolerance": 5}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*zarr v2:UserWarning")
def test_every_layout_says_the_same_of_each_node(write: Any, name: str, options: Any, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    made = section()
    assert add_embeddings(made, EmbeddingTable(table=tmp_path / f"{{section}}{path.suffix}", **options))
    found = made.tables["patch_histology"]
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found[list(BARCODES)].X, VALUES)


def test_a_node_without_a_row_is_unmeasured_and_told(tmp_path: Path) -> None:
    frame = pd.DataFrame(VALUES, BARCODES).iloc[:9]
    frame.to_csv(tmp_path / "some.csv", index_label="barcode")
    made = section()
    with doubts_heard() as doubts:
        add_embeddings(made, EmbeddingTable(table=tmp_path / "some.csv"))
    assert list(made.tables["patch_histology"].obs_names) == list(BARCODES[:9])
    (told,) = doubts
    assert told.startswith("S1 · some.csv: expected ≥ 95%, found embeddings of 9 of 12 patch nodes")


def test_one_file_of_several_sections_is_parted(tmp_path: Path) -> None:
    features = EmbeddingTable(table=h5ad(tmp_path / "all.h5ad"), key="novae", section_by="library")
    for name, rows in (("S1", range(8)), ("S2", range(8, 12))):
        made = section(name)
        with doubts_heard():
            assert add_embeddings(made, features)
        assert list(made.tables["patch_histology"].obs_names) == [BARCODES[i] for i in rows]
    with doubts_heard() as doubts:
        assert not add_embeddings(section("S3"), features)
    assert "S3: expected rows of it, found no row of all.h5ad" in doubts[0]


def test_a_section_without_a_file_is_left_out_and_told(tmp_path: Path) -> None:
    with doubts_heard() as doubts:
        assert not add_embeddings(section(), EmbeddingTable(table=tmp_path / "{section}.h5"))
    assert "S1: expected a file a section, found no S1.h5" in doubts[0]
    with pytest.raises(ReadError, match=r"all\.h5: .*found no such file"):
        add_embeddings(section(), EmbeddingTable(table=tmp_path / "all.h5"))


def test_nearest_within_the_tolerance_and_no_farther(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"x": [300, 549], "y": [300, 300], "f": [1.0, 2.0]}).to_csv(path, index=False)

    def measured(**options: Any) -> list[str]:
        made = section()
        with doubts_heard():
            add_embeddings(made, EmbeddingTable(table=path, frame="nodes", **options))
        return list(made.tables["patch_histology"].obs_names)

    assert measured(tolerance=48) == list(BARCODES[:1])
    assert measured(tolerance=50) == list(BARCODES[:2])
    assert measured() == list(BARCODES[:2])  # the diameter, 110 pixels
    with pytest.raises(TissueError, match=r"expected one within 5 µm of nodes such as 150, 150;"):
        measured(tolerance=10, tile=3000)


@pytest.mark.parametrize(
    ("frame", "options", "found"),
    [
        (
            {"barcode": ["X1", "X2"], "f": [1, 2]},
            {},
            r"nodes such as 'SPOT00-1', .*found rows 'X1', 'X2'; are they",
        ),
        ({"barcode": ["SPOT00"], "f": [1]}, {}, r"found rows 'SPOT00'; set `strip_suffix: true`"),
        ({"barcode": ["SPOT00-1"] * 2, "f": [1, 2]}, {}, r"expected a row a node, found barcode 'SPOT00-1' twice"),
        ({"barcode": ["SPOT00-1"], "f": [np.nan]}, {}, r"NaN or infinity in 1 of 1 rows, first of 'SPOT00-1'"),
        ({"barcode": ["SPOT00-1"], "f": [1e60]}, {}, r"NaN or infinity in 1 of 1 rows"),
        ({"barcode": ["SPOT00-1"], "f": ["a"]}, {}, r"text in column 'f'"),
        ({"barcode": ["SPOT00-1"], "f": [1]}, {"by": "position"}, r"found no coordinates; join them `by: barcode`"),
        ({"barcode": ["SPOT00-1"], "f": [1]}, {"level": "cell"}, r"no cell nodes; levels here: patch"),
        ({"x": [1], "y": [1], "f": [1]}, {"by": "barcode"}, r"found no barcodes; join them `by: position`"),
        ({"x": [1], "y": [1], "f": [1]}, {}, r"expected `frame:`, found coordinates in a unit unknown"),
        ({"x": [9e6], "y": [1], "f": [1]}, {"frame": "nodes"}, r"nodes such as 150, 150; .*found rows at 4,500,000, 0"),
        ({"x": [1], "y": [1], "f": [1]}, {"frame": "slide", "slide": False}, r"found no slide; set another `frame:`"),
        ({"barcode": ["SPOT00-1"]}, {}, r"expected rows of embeddings, found values \(1, 0\)"),
        ({"f": [1.0], "g": [2.0]}, {}, r"expected barcodes or coordinates, found rows that nothing tells apart"),
        ({"barcode": ["SPOT00-1"], "f": [1]}, {"section_by": "lib"}, r"no column named 'lib'"),
    ],
)
def test_what_does_not_fit_is_refused_with_examples_and_a_mend(
    frame: dict[str, Any], options: dict[str, Any], found: str, tmp_path: Path
) -> None:
    pd.DataFrame(frame).to_csv(tmp_path / "t.csv", index=False)
    made = section(slide=options.pop("slide", True))
    with pytest.raises((ReadError, TissueError, ConfigError), match=found):
        add_embeddings(made, EmbeddingTable(table=tmp_path / "t.csv", **options))


@pytest.mark.parametrize(
    ("arrays", "key", "found"),
    [
        ({"vectors": VALUES, "barcode": BARCODES}, None, r"no array named 'features or embeddings or embedding'"),
        ({"vectors": VALUES, "barcode": BARCODES}, "vector", r"no array named 'vector'; did you mean 'vectors'"),
        ({"features": VALUES, "barcode": BARCODES[:3]}, None, r"a row of each, found barcodes \(3,\) beside values"),
        ({"features": VALUES, "coords": np.zeros((N, 3))}, None, r"coordinates \(12, 3\) beside values \(12, 3\)"),
        ({"features": BARCODES, "barcode": BARCODES}, None, r"expected numbers \(row, feature\), found <U8 \(12,\)"),
        ({"features": VALUES, "barcode": np.array([{}] * N, object)}, None, r"an archive that cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(
    arrays: dict[str, Any], key: str | None, found: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ReadError, match=found):
        read_embeddings(tmp_path / "t.npz", key)


def test_the_files_of_all_sections_are_found_wherever_the_name_stands(tmp_path: Path) -> None:
    (tmp_path / "S1").mkdir()
    write: Callable[[Path], Any] = Path.touch
    for name in ("S1/f.h5", "S1.h5", "S2.h5"):
        write(tmp_path / name)
    assert EmbeddingTable(table=tmp_path / "{section}.h5").files() == [tmp_path / "S1.h5", tmp_path / "S2.h5"]
    assert EmbeddingTable(table=tmp_path / "{section}/f.h5").files() == [tmp_path / "S1/f.h5"]
    assert EmbeddingTable(table=tmp_path / "S1.h5").files() == [tmp_path / "S1.h5"]
