"""An AnnData in memory gives the sections that its file gives, and meets the same checks."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.graph.build import build_graph
from aivc_graph.io.reading import read
from aivc_graph.pipeline.from_anndata import from_anndata
from aivc_graph.tissue.section import metadata_of


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"library": np.repeat(["a", "b"], 60)}, index=[f"c{i}" for i in range(120)])
    obs["donor"] = np.repeat(["P1", "P2"], 60)
    obs["type"] = pd.Categorical(np.tile(["T", "B", "T"], 40))
    obs["mixed"] = [1, "x", None] * 40
    counts = rng.poisson(2.0, (120, 20)).astype(np.float32)
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(20)])
    return ad.AnnData(counts, obs, var, obsm={"spatial": rng.random((120, 2)) * 100}, uns={"f": lambda: None})


def test_it_is_what_its_file_gives(adata: ad.AnnData, tmp_path: Path) -> None:
    given = {"level": "cell", "um_per_unit": 1.5, "diameter_um": 8.0}
    (section,) = from_anndata(adata, label_key="type", name="s", **given)
    written = ad.AnnData(adata.X, adata.obs.drop(columns="mixed"), adata.var, obsm=adata.obsm)
    written.write_h5ad(tmp_path / "s.h5ad")
    other = read(tmp_path / "s.h5ad", section="s", label="type", **given)
    assert section.shapes["cell"].equals(other.shapes["cell"])
    assert np.array_equal(section.tables["cell_rna"].X.toarray(), other.tables["cell_rna"].X.toarray())


def test_keys_become_sections_donors_labels_and_traits(adata: ad.AnnData) -> None:
    adata.obs["stage"] = np.repeat(["early", "late"], 60)
    given = {"section_key": "library", "donor_key": "donor", "label_key": "type", "trait_keys": ["stage"]}
    sections = from_anndata(adata, **given, um_per_unit=1, diameter_um=8)
    assert [metadata_of(one)["section"] for one in sections] == ["a", "b"]
    graph = build_graph(sections)
    assert graph.obs("section")[["donor", "stage"]].to_numpy().tolist() == [["P1", "early"], ["P2", "late"]]
    assert graph.obs("cell")["label"].tolist().count("T") == 80


def test_cells_without_positions(adata: ad.AnnData) -> None:
    (section,) = from_anndata(adata, spatial_key=None)
    assert build_graph([section])["cell"].num_nodes == 120


def test_a_layer_of_counts_and_a_view(adata: ad.AnnData) -> None:
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    with pytest.raises(AivcError, match="from_anndata: section section: AnnData"):
        from_anndata(adata, um_per_unit=1, diameter_um=8)
    (section,) = from_anndata(adata[:50], um_per_unit=1, diameter_um=8, layer="counts")
    assert np.array_equal(section.tables["cell_rna"].X.toarray(), adata.layers["counts"][:50])


def test_what_is_missing_is_said(adata: ad.AnnData) -> None:
    with pytest.raises(ReadError, match="um_per_unit"):
        from_anndata(adata)
    with pytest.raises(ReadError, match="library_id"):
        from_anndata(adata, section_key="library_id", um_per_unit=1, diameter_um=8)
