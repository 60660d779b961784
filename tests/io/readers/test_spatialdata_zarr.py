"""SpatialData stores: an old one of points, a foreign one whose elements are named, ours, and unsafe ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import READERS, read, reader_for, recognise
from aivc_graph.tissue.frame import affine_of, diameters_um, positions_um

PIXEL_UM = 0.2125


@pytest.fixture
def old(data_dir: Path) -> Path:
    return data_dir / "xenium-visium-breast" / "xenium_rep1_io.points_only.spatialdata.zarr"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Spots and cells in pixels, a table over the spots in reverse order, two images."""
    import geopandas
    from shapely import box
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Scale

    to_global = {"global": Scale([2.0, 2.0], ("x", "y"))}
    xy = np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]])
    spots = ShapesModel.parse(xy, geometry=0, radius=55.0, index=pd.Index(["a", "b", "c"]), transformations=to_global)
    squares = geopandas.GeoDataFrame({"geometry": [box(0, 0, 10, 10), box(30, 0, 40, 10)], "grade": [1, 2]})
    cells = ShapesModel.parse(squares, transformations=to_global)
    obs = pd.DataFrame({"region": pd.Categorical(["spots"] * 3), "spot": ["c", "b", "a"]}, index=["0", "1", "2"])
    table = AnnData(np.array([[3.0], [2.0], [1.0]], np.float32), obs=obs, var=pd.DataFrame(index=["ESR1"]))
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="spot")
    pixels = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    he = Image2DModel.parse(pixels, dims=("c", "y", "x"), scale_factors=[2], transformations=to_global)
    other = Image2DModel.parse(pixels[:1], dims=("c", "y", "x"), transformations=to_global)
    shapes, tables = {"spots": spots, "cells": cells}, {"counts": table}
    SpatialData(images={"he": he, "dapi": other}, shapes=shapes, tables=tables).write(tmp_path / "foreign.zarr")
    return tmp_path / "foreign.zarr"


def test_old_store_of_points_only(old: Path) -> None:
    assert recognise(old) == "spatialdata"
    section = read(old, check=False, um_per_unit=PIXEL_UM)
    points = section.points["transcripts"]
    assert type(points).__module__.startswith("dask")
    assert list(points.columns) == ["x", "y", "gene", "cell"]
    molecules = points.compute()
    assert (len(molecules), molecules["gene"].iloc[0], molecules["cell"].iloc[0]) == (213_191, "SEC11C", 565)
    # The store's own points are microns; its system "global" is pixels; both together give back microns.
    np.testing.assert_allclose(affine_of(section, "transcripts"), np.eye(3), atol=1e-6)


def test_unknown_unit_is_refused(old: Path) -> None:
    with pytest.raises(
        ReadError, match=r"expected microns per unit, found a system of unknown unit; give it as `um_per_unit:`"
    ):
        read(old, check=False)
    with pytest.raises(ReadError, match=r"no coordinate system named 'globe'; did you mean 'global'"):
        read(old, check=False, coordinate_system="globe")


def test_foreign_store_by_named_elements(foreign: Path) -> None:
    section = read(foreign, spots="spots", cells="cells", slide="he", um_per_unit=0.5)
    np.testing.assert_allclose(positions_um(section, "patch"), [[0, 0], [200, 0], [0, 200]])
    np.testing.assert_allclose(diameters_um(section, "patch"), 110)
    np.testing.assert_allclose(positions_um(section, "cell"), [[5, 5], [35, 5]])
    np.testing.assert_allclose(diameters_um(section, "cell"), 2 * np.sqrt(100 / np.pi))
    assert list(section.shapes["cell"]["grade"]) == [1, 2]
    counts = section.tables["patch_rna"]
    assert dict(zip(counts.obs_names, counts.X[:, 0], strict=True)) == {"a": 1, "b": 2, "c": 3}
    assert "cell_rna" not in section.tables
    assert section.images["slide"].shape == (3, 64, 64)
    np.testing.assert_allclose(affine_of(section, "slide"), np.eye(3))


def test_choices_only_the_user_can_make_are_asked_for(foreign: Path) -> None:
    with pytest.raises(
        ReadError, match=r"expected to be told which are cells or spots, found .*set `cells:` or `spots:`"
    ):
        read(foreign, um_per_unit=0.5)
    with pytest.raises(ReadError, match=r"slide: expected one, found 2 of them: .*name it as `slide:`"):
        read(foreign, spots="spots", um_per_unit=0.5)
    with pytest.raises(ReadError, match=r"no shapes element named 'spot'; did you mean 'spots'"):
        read(foreign, spots="spot", slide="he", um_per_unit=0.5)
    with pytest.raises(ReadError, match=r"no table named 'count'; did you mean 'counts'"):
        read(foreign, spots="spots", slide="he", um_per_unit=0.5, table="count")


def test_slide_alone_can_be_taken(foreign: Path) -> None:
    section = read(foreign, slide="dapi", um_per_unit=0.5)
    assert section.images["slide"].shape == (1, 64, 64)
    assert len(section.shapes) == 0


def test_unplaced_without_a_unit(foreign: Path) -> None:
    section = read(foreign, spots="spots", slide="he", check=False)
    assert affine_of(section, "patch") is None


def test_unsafe_store_is_refused_before_it_is_read(foreign: Path, tmp_path: Path) -> None:
    pickled = json.dumps({"zarr_format": 2, "dtype": "|O", "compressor": None, "filters": [{"id": "pickle"}]})
    (foreign / "tables" / "counts" / ".zarray").write_text(pickled)
    with pytest.raises(ReadError, match="an array stored as pickle"):
        read(foreign, spots="spots")
    (foreign / "tables" / "counts" / ".zarray").unlink()
    (foreign / "images" / "link").symlink_to(tmp_path)
    with pytest.raises(ReadError, match=r"images/link: .*found a link"):
        read(foreign, spots="spots")


def test_damaged_store_is_named(foreign: Path) -> None:
    shutil.rmtree(foreign / "shapes" / "spots")
    (foreign / "shapes" / "spots").mkdir()
    with pytest.raises(ReadError, match=r"foreign\.zarr"):
        read(foreign, spots="spots", slide="he", um_per_unit=0.5)


def test_packed_store_is_refused(tmp_path: Path, foreign: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "packed.zarr"), "zip", foreign))
    with pytest.raises(ReadError, match="expected a folder, found a packed store; unpack it first"):
        read(packed, reader="spatialdata")


def test_our_own_section_needs_no_option_and_stays_lazy(data_dir: Path, tmp_path: Path) -> None:
    from aivc_graph.tissue.section import merge_sections

    cells = read(data_dir / "vendor-formats/mini-imaging/Xenium_small", section="S")
    slide = read(data_dir / "slides/CMU-1-Small-Region.svs", section="S")
    ours = merge_sections("S", [cells, slide])
    ours.write(tmp_path / "S.zarr")
    again = read(tmp_path / "S.zarr")
    assert again.attrs["aivc"] == {"section": "S", "platform": "Xenium"}
    np.testing.assert_array_equal(positions_um(again, "cell"), positions_um(ours, "cell"))
    np.testing.assert_array_equal(again["cell_rna"].X.toarray(), ours["cell_rna"].X.toarray())
    window = np.s_[:, 1000:1100, 500:600]
    np.testing.assert_array_equal(
        again.images["slide"].data[window].compute(), slide.images["slide"].data[window].compute()
    )
    np.testing.assert_allclose(affine_of(again, "slide"), np.diag([0.499, 0.499, 1]))


def test_a_column_of_shapes_or_table_tells_sections_apart(foreign: Path) -> None:
    import spatialdata

    store = spatialdata.read_zarr(foreign)
    store.tables["counts"].obs["library"] = ["L2", "L1", "L1"]  # of c, b, a
    store.write(foreign.with_name("parted.zarr"))
    reader = reader_for(foreign.with_name("parted.zarr"), spots="spots", slide="he", um_per_unit=0.5)
    parts = reader.read_by(foreign.with_name("parted.zarr"), ("library",))
    assert {name: sorted(part.shapes["patch"].index) for name, part in parts.items()} == {"L1": ["a", "b"], "L2": ["c"]}
    assert parts["L2"]["patch_rna"].X.sum() == 3 and parts["L1"]["patch_rna"].X.sum() == 3
    cells = reader_for(foreign, cells="cells", slide="he", um_per_unit=0.5).read_by(foreign, ("grade",))
    assert sorted(cells) == ["1", "2"]
    both = reader_for(foreign, cells="cells", spots="spots", slide="he", um_per_unit=0.5)
    with pytest.raises(ReadError, match=r"shapes: expected the one whose column tells sections apart, found cells, sp"):
        both.read_by(foreign, ("grade",))


def test_a_delivery_of_one_section_says_so(tmp_path: Path) -> None:
    reader = reader_for(tmp_path, "spaceranger")
    with pytest.raises(ReadError, match=r"found a delivery of one section, to be parted by library; leave out"):
        reader.read_by(tmp_path, ("library",))


def test_a_store_tells_which_shapes_its_table_belongs_to(foreign: Path, tmp_path: Path) -> None:
    """Of two shapes the one with a table; our own sections need no option; where nothing tells, nothing is said."""
    import spatialdata

    reader = READERS["spatialdata"]
    assert reader.options_beside(foreign) == {"spots": "spots"}
    read(foreign, spots="spots", um_per_unit=0.25, slide="he").write(tmp_path / "own.zarr")
    assert reader.options_beside(tmp_path / "own.zarr") == {}
    store = spatialdata.read_zarr(foreign)
    for name, shapes, said in (("two", ("spots", "cells"), {}), ("one", ("cells",), {"cells": "cells"})):
        bare = spatialdata.SpatialData(shapes={one: store.shapes[one] for one in shapes})
        bare.write(tmp_path / f"{name}.zarr")
        assert reader.options_beside(tmp_path / f"{name}.zarr") == said
