"""Shapes of cells as a modality: of outlines with known shape, of columns, and of nuclei painted on a slide."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
import yaml
from scipy import ndimage
from scipy.spatial import cKDTree
from spatialdata.models import ShapesModel

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.errors import TissueError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.store import read_store
from aivc_graph.modalities.morphology import MorphologyFeatures, add_morphology, outline_shapes
from aivc_graph.modalities.nuclei_as_cells import add_nuclei
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.pipeline.build import build
from aivc_graph.query.types import told_types
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import positions_um, scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.modalities.test_histology import MPP, lazily, painted

LATTICE = np.stack(np.meshgrid(np.arange(20, 780, 40), np.arange(20, 1180, 40)), -1).reshape(-1, 2)


def outlined(outlines: list[Any], um_per_unit: float = 0.5) -> Any:
    """Return a section of cells with these outlines, in units of `um_per_unit`."""
    from spatialdata.transformations import Affine

    section = new_section("S1")
    barcodes = [f"c{i}" for i in range(len(outlines))]
    centres = np.array([[one.centroid.x, one.centroid.y] for one in outlines])
    columns = pd.DataFrame({"area": [one.area for one in outlines], "word": "x"})
    add_level(section, "cell", barcodes, centres, 10.0, scale_affine(um_per_unit), columns)
    frame = gpd.GeoDataFrame(geometry=outlines, index=pd.Index(barcodes))
    matrix = Affine(scale_affine(um_per_unit), input_axes=("x", "y"), output_axes=("x", "y"))
    section.shapes["cell_outlines"] = ShapesModel.parse(frame, transformations={names.MICRONS: matrix})
    return section


def ellipse(x: float, y: float, a: float, b: float, angle: float = 0.0) -> Any:
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return shapely.Polygon((np.column_stack([a * np.cos(t), b * np.sin(t)]) @ turned.T) + [x, y])


def test_outlines_have_the_shape_they_were_drawn_with_wherever_they_lie_and_however_turned() -> None:
    pacman = shapely.Polygon([(0, 0), (20, 0), (20, 20), (10, 10), (0, 20)])
    several = shapely.MultiPolygon([ellipse(0, 0, 10, 10), shapely.box(40, 40, 41, 41)])
    shapes = [ellipse(0, 0, 20, 10), ellipse(9000, 7000, 20, 10, 1.1), ellipse(5, 5, 10, 10), pacman, several]
    table = outline_shapes(outlined(shapes))
    expected = np.sqrt(1 - 0.25)
    assert table["eccentricity"][:2].to_numpy() == pytest.approx([expected, expected], abs=1e-3)
    assert table.iloc[2][["eccentricity", "solidity", "roundness"]].to_numpy() == pytest.approx([0, 1, 1], abs=0.02)
    assert np.exp(table["log_area"].iloc[0]) == pytest.approx(np.pi * 200 * 0.25, rel=1e-3)  # in µm²
    assert table["solidity"].iloc[3] == pytest.approx(300 / 400)
    assert table["eccentricity"].iloc[4] < 0.05  # of the largest piece


def test_shapes_become_a_modality_of_cells_that_a_model_reads_and_tells() -> None:
    rng = np.random.default_rng(0)
    places = rng.random((300, 2)) * 400
    long = rng.random(300) < 0.5
    section = outlined(
        [ellipse(x, y, 8 if one else 5, 4 if one else 5) for (x, y), one in zip(places, long, strict=True)]
    )
    section.shapes["cell"]["label"] = np.where(long, "spindle", "round")
    add_morphology(section, MorphologyFeatures(columns=("area",)))
    graph = build_graph(
        [section], GraphConfig(edges={"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 6}})
    )
    assert graph.modalities("cell") == [names.MORPHOLOGY]
    assert graph["cell"]["morphology_names"] == ["area", "log_area", "eccentricity", "solidity", "roundness"]
    model = model_of(graph, ModelConfig(latent=3, rings=(4,)))
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), (*BEFORE_TRAINING, *AFTER_TRAINING))
    told, _ = told_types(model, graph, "cell")
    types = model.plan.types["cell"]
    right = np.array(types)[told.argmax(axis=1)] == graph.obs("cell")["label"].to_numpy()
    assert right.mean() > 0.95  # the shape says which


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    section = outlined([ellipse(0, 0, 5, 5), ellipse(30, 0, 5, 5)])
    with pytest.raises(TissueError, match=r"S1 · morphology: no column of cells named 'aera'; did you mean 'area'"):
        add_morphology(section, MorphologyFeatures(columns=("aera",)))
    with pytest.raises(TissueError, match="no number in column 'word'"):
        add_morphology(section, MorphologyFeatures(columns=("word",)))
    add_morphology(section, MorphologyFeatures(outlines=False))
    assert "cell_morphology" not in section.tables


def seen_through_optics(nuclei_px: np.ndarray) -> np.ndarray:
    """Return painted tissue with edges as soft as those of a microscope's picture."""
    return ndimage.gaussian_filter(painted(nuclei_px), (1.5, 1.5, 0))


def slide_alone(image: Any, mpp: float = MPP) -> Any:
    section = new_section("S1")
    add_slide(section, lazily(image), scale_affine(mpp))
    return section


def test_nuclei_of_a_slide_without_cells_become_cells_once_each_and_a_doubt_says_so() -> None:
    section = slide_alone(seen_through_optics(LATTICE))
    with doubts_heard() as heard:
        add_nuclei(section, MorphologyFeatures(nuclei=True))
    assert len(heard) == 1 and "nuclei found on the picture stand for cells" in heard[0]
    found = positions_um(section, "cell")
    # The slide is cut into pieces of 400 µm whose margins overlap: nobody is found twice.
    assert len(found) == pytest.approx(len(LATTICE), rel=0.03)
    far, which = cKDTree((LATTICE + 0.5) * MPP).query(found)
    assert np.quantile(far, 0.95) < 1.0 and len(np.unique(which)) == len(found)
    table = section.tables["cell_morphology"].to_df()
    assert np.exp(table["log_area"]).median() == pytest.approx(np.pi * 16, rel=0.25)
    assert table["eccentricity"].median() < 0.4


def test_nuclei_are_left_alone_where_cells_were_delivered_or_nobody_asked() -> None:
    image = painted(LATTICE[:40])
    delivered = slide_alone(image)
    add_level(delivered, "cell", ["a", "b"], [[0, 0], [20, 20]], 5.0, scale_affine(1.0))
    add_nuclei(delivered, MorphologyFeatures(nuclei=True))
    assert list(delivered.shapes["cell"].index) == ["a", "b"]
    unasked = slide_alone(image)
    add_nuclei(unasked, MorphologyFeatures())
    assert "cell" not in unasked.shapes


@pytest.mark.parametrize(
    ("image", "mpp", "match"),
    [
        (np.full((400, 400, 3), 235, np.uint8), 0.5, "expected some nuclei, found none"),
        (painted(LATTICE[:40]), 4.0, "found 4 µm a pixel.*finer slide"),
    ],
)
def test_a_picture_in_which_no_nuclei_can_be_seen_is_refused(image: Any, mpp: float, match: str) -> None:
    with pytest.raises(TissueError, match=match):
        add_nuclei(slide_alone(image, mpp), MorphologyFeatures(nuclei=True))


def test_a_build_takes_nuclei_for_cells_by_the_yaml(tmp_path: Any) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", seen_through_optics(LATTICE), tile=(256, 256), photometric="rgb")
    source = {"path": "./slide.tif", "reader": "slide", "mpp": MPP}
    task = {"name": "he", "sections": [{"name": "S1", "sources": [source]}], "morphology": {"nuclei": True}}
    (tmp_path / "he.yaml").write_text(yaml.safe_dump({"task": task}))
    graph = read_store(build(load_config(tmp_path / "he.yaml", []), tmp_path / "graph.zarr"))
    assert int(graph["cell"].num_nodes) == pytest.approx(len(LATTICE), rel=0.03)
    assert graph.modalities("cell") == [names.MORPHOLOGY]
