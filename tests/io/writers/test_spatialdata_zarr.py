"""SpatialData stores: written a section, read again by our reader with everything in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aivc_graph.errors import StoreError
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.reading import read, recognise
from aivc_graph.io.writing import write
from aivc_graph.tissue.frame import diameters_um, positions_um


def test_sections_come_back_whole(graph: TissueGraph, tmp_path: Path) -> None:
    out = write(graph, tmp_path / "out", to="spatialdata")
    assert sorted(p.name for p in out.iterdir()) == ["A_1.zarr", "B2.zarr"]
    assert recognise(out / "A_1.zarr") == "spatialdata"
    for row, (file, name) in enumerate([("A_1.zarr", "A/1"), ("B2.zarr", "B2")]):
        section = read(out / file)
        assert section.attrs["aivc"]["section"] == name
        for level in graph.levels:
            mine = graph[level].section_index.numpy() == row
            assert list(section.shapes[level].index) == list(graph.obs(level)["barcode"][mine])
            np.testing.assert_allclose(positions_um(section, level), graph[level].pos.numpy()[mine])
            np.testing.assert_allclose(diameters_um(section, level), graph[level].size_um.numpy()[mine])
    assert section.attrs["aivc"] == {"section": "B2"}
    assert read(out / "A_1.zarr").attrs["aivc"] == {"section": "A/1", "donor": "D1", "um_per_pixel": 0.5}
    assert read(out / "A_1.zarr", section="renamed").attrs["aivc"]["section"] == "renamed"


def test_observations_hold_who_was_measured(graph: TissueGraph, tmp_path: Path) -> None:
    section = read(write(graph, tmp_path, to="spatialdata") / "A_1.zarr")
    counts = to_scipy_csr(graph.counts("cell", "rna")).toarray()
    measured = [i for i in range(15) if i != 3]
    table = section.tables["cell_rna"]
    assert list(table.obs_names) == [f"c{i}" for i in measured]
    np.testing.assert_array_equal(table.X.toarray(), counts[measured])
    near = to_scipy_csr(graph.adjacency("cell", "near", "cell"))[measured][:, measured]
    assert table.obsp["spatial_connectivities"].nnz == near.nnz
    tiles = section.tables["patch_histology"]
    np.testing.assert_array_equal(tiles.X, graph["patch"].histology[:4])
    assert list(tiles.var_names) == ["haematoxylin", "eosin"]


def test_every_column_survives(graph: TissueGraph, tmp_path: Path) -> None:
    cells = read(write(graph, tmp_path, to="spatialdata") / "B2.zarr").shapes["cell"]
    obs = graph.obs("cell").iloc[15:]
    assert list(cells["niche"].astype(str)) == list(obs["niche"])
    np.testing.assert_array_equal(cells["score"], obs["score"])
    assert list(cells["label"].astype(str)) == ["T"] * 15


def test_a_second_write_replaces_the_first(graph: TissueGraph, tmp_path: Path) -> None:
    write(graph, tmp_path, to="spatialdata")
    graph["cell"].obs["niche"] = "only"
    write(graph, tmp_path, to="spatialdata")
    assert set(read(tmp_path / "B2.zarr").shapes["cell"]["niche"].astype(str)) == {"only"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A_1.zarr", "B2.zarr"]


def test_what_is_no_store_is_not_overwritten(graph: TissueGraph, tmp_path: Path) -> None:
    (tmp_path / "A_1.zarr").mkdir()
    (tmp_path / "A_1.zarr" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"A_1\.zarr: something that is no Zarr store"):
        write(graph, tmp_path, to="spatialdata")
    assert (tmp_path / "A_1.zarr" / "thesis.txt").read_text() == "mine"
