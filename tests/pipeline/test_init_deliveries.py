"""`aivc init` on labels and slides beside deliveries, spots beside a reference, and several columns of types."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import load_config
from aivc_graph.pipeline.init import init
from aivc_graph.simulate.simulate import simulate
from tests.pipeline.test_init_further import GENES, N, built, cells, loose, only_source


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate("tiny", folder / "study")
    return folder / "study/D1_untreated"


@pytest.mark.parametrize(("where", "whose"), [("S/xenium", "own"), ("S", "own"), ("S/xenium", "others")])
def test_labels_that_lie_in_or_beside_a_delivery_are_taken_if_they_are_of_its_cells(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, whose: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(simulated / "xenium", "S/xenium")
    groups = pd.read_csv("S/xenium/cell_types.csv")
    Path("S/xenium/cell_types.csv").unlink()
    groups.columns = ["cell_id", "group"]
    if whose == "others":
        groups["cell_id"] = "x" + groups["cell_id"].astype(str)
    groups.to_csv(f"{where}/cell_groups.csv", index=False)
    told = init(Path("S"))
    given = only_source(tmp_path / "S").model_extra or {}
    if whose == "own":
        assert Path(given["labels"]).name == "cell_groups.csv"
        assert not any("cell_groups" in text for text in told["unclear"])
    else:
        assert "labels" not in given
        assert any("its labels left out" in text and "labels at no cell" in text for text in told["unclear"])
    labels = built(tmp_path / "S").obs("cell").get("label")
    assert (labels is not None and labels.notna().all()) == (whose == "own")


@pytest.mark.parametrize("aligned", [True, False])
def test_a_slide_beside_cells_is_taken_where_an_affine_places_it(
    simulated: Path, tmp_path: Path, aligned: bool
) -> None:
    shutil.copytree(simulated / "xenium", tmp_path / "xenium")
    shutil.copy(simulated / "slide.ome.tif", tmp_path)
    if not aligned:
        (tmp_path / "xenium/he_imagealignment.csv").unlink()
    told = init(tmp_path)
    assert any("slide.ome.tif is left out: no *imagealignment*.csv" in text for text in told["unclear"]) != aligned
    graph = built(tmp_path)
    assert ("histology" in graph.modalities("patch")) == aligned


def test_rows_on_a_lattice_are_spots_and_train_beside_a_reference(tmp_path: Path) -> None:
    spots = cells(144)
    spots.obsm["spatial"] = 100.0 * np.column_stack([np.arange(144) % 12, np.arange(144) // 12])
    spots.write_h5ad(tmp_path / "spots.h5ad")
    loose(120, GENES, cell_type=np.array(["T", "B"])[np.arange(120) % 2]).write_h5ad(tmp_path / "atlas.h5ad")
    told = init(tmp_path)
    assert not any("taken for a cell" in text or "spots: cannot be read" in text for text in told["unclear"])
    sources = {one.name: one.sources[0].model_extra or {} for one in load_config(tmp_path / "aivc.yaml").task.sections}
    assert sources["spots"]["level"] == "patch" and sources["spots"]["um_per_unit"] == 1.0
    assert sources["spots"]["diameter_um"] == 55.0 and sources["atlas"]["label"] == "cell_type"
    graph = built(tmp_path)
    assert graph["patch"].num_nodes == 144 and graph["cell"].num_nodes == 120
    cells(144, spread=1000.0).write_h5ad(tmp_path / "spots.h5ad")
    (tmp_path / "aivc.yaml").unlink()
    init(tmp_path)
    text = (tmp_path / "aivc.yaml").read_text()
    assert "level: cell" in text and "level: patch" not in text


def test_of_several_columns_of_types_the_coarsest_is_offered(tmp_path: Path) -> None:
    kinds = {
        f"celltype_{name}": [f"{i % n}x" for i in range(N)] for name, n in (("subset", 9), ("minor", 5), ("major", 3))
    }
    loose(cell_type_ontology_term_id=["CL:1", "CL:2"] * (N // 2), **kinds).write_h5ad(tmp_path / "atlas.h5ad")
    init(tmp_path)
    assert (only_source(tmp_path).model_extra or {})["label"] == "celltype_major"


def test_bins_abut(tmp_path: Path) -> None:
    bins = cells(144)
    bins.obsm["spatial"] = 8.0 * np.column_stack([np.arange(144) % 12, np.arange(144) // 12])
    bins.write_h5ad(tmp_path / "bins.h5ad")
    init(tmp_path)
    given = only_source(tmp_path).model_extra or {}
    assert given["level"] == "patch" and given["diameter_um"] == 8.0
