"""AnnData files: round trip, squidpy runs on them, the old file survives a failure."""

from __future__ import annotations

import resource
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.writing import write
from aivc_graph.plot.palette import nth_colour


def test_folder_holds_one_file_a_level(graph: TissueGraph, tmp_path: Path) -> None:
    out = write(graph, tmp_path / "out", to="h5ad")
    assert sorted(p.name for p in out.iterdir()) == ["cell.h5ad", "patch.h5ad", "region.h5ad"]
    table = anndata.read_h5ad(out / "cell.h5ad")
    assert table.X.format == "csr"
    np.testing.assert_array_equal(table.X.toarray(), to_scipy_csr(graph.counts("cell", "rna")).toarray())
    np.testing.assert_allclose(table.obsm["spatial"], graph["cell"].pos.numpy())
    np.testing.assert_array_equal(table.obsp["spatial_distances"].data, graph["cell", "near", "cell"].distance_um)
    assert list(table.obs_names) == list(graph.obs("cell").index)
    assert list(table.var_names) == ["ESR1", "KRT5", "CD3E"]
    assert list(table.uns["sections"].index) == ["A/1", "B2"]


def test_every_column_survives(graph: TissueGraph, tmp_path: Path) -> None:
    table = anndata.read_h5ad(write(graph, tmp_path / "x.cell.h5ad", to="h5ad"))
    obs = graph.obs("cell")
    assert list(table.obs["niche"]) == list(obs["niche"])
    np.testing.assert_array_equal(table.obs["score"], obs["score"])
    assert table.obs["label"].isna().sum() == 1 and (table.obs["label"] == "T").sum() == 29
    assert list(table.obs["split"][:4]) == ["train", "validation", "test", "train"]
    assert list(table.obs["section"].cat.categories) == ["A/1", "B2"]
    assert not table.obs["rna_measured"].iloc[3]


def test_other_observations_lie_beside_the_counts(graph: TissueGraph, tmp_path: Path) -> None:
    table = anndata.read_h5ad(write(graph, tmp_path / "patch.h5ad", to="h5ad"))
    np.testing.assert_array_equal(table.obsm["histology"], graph["patch"].histology)
    assert list(table.uns["histology_names"]) == ["haematoxylin", "eosin"]
    assert list(table.var["measured"]) == [True, True, False]


@pytest.mark.filterwarnings("ignore")  # squidpy's own use of its dependencies
def test_squidpy_finds_its_neighbours(graph: TissueGraph, tmp_path: Path) -> None:
    import squidpy as sq

    table = anndata.read_h5ad(write(graph, tmp_path / "cell.h5ad", to="h5ad"))
    sq.gr.nhood_enrichment(table, cluster_key="niche", seed=0, n_perms=20, show_progress_bar=False)
    count = table.uns["niche_nhood_enrichment"]["count"]
    assert count.sum() == graph["cell", "near", "cell"].distance_um.numel()


def test_one_file_for_several_levels_needs_the_levels_name(graph: TissueGraph, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected cell\.h5ad or patch\.h5ad or region\.h5ad"):
        write(graph, tmp_path / "run.h5ad", to="h5ad")


def test_a_full_disk_leaves_the_old_file(graph: TissueGraph, tmp_path: Path) -> None:
    path = tmp_path / "cell.h5ad"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cell\.h5ad: File too large while writing; what was there .* intact"):
            write(graph, path, to="h5ad")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["cell.h5ad"]


def test_niches_have_the_colours_of_the_report_under_the_name_scanpy_draws_by(
    graph: TissueGraph, tmp_path: Path
) -> None:
    graph["cell"].obs["niche"] = pd.Categorical(np.array(["2", "10", "12"])[np.arange(30) % 3])
    table = anndata.read_h5ad(write(graph, tmp_path / "x.cell.h5ad", to="h5ad"))
    told = dict(zip(table.obs["niche"].cat.categories, table.uns["niche_colors"], strict=True))
    assert told == {name: nth_colour(int(name) - 1) for name in ("2", "10", "12")}
