"""The walks of the documentation, taken with the YAML that is printed there: from a file as a user has it to niches."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from tests.pipeline.test_kinds_of_faults import geo_visium
from tests.vendor_folders import intensities, some_cells, write_cosmx

Say = Callable[..., tuple[int, str, str]]
DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_LINES = 15


def _yaml(page: str) -> str:
    """Return the configuration of a walk, which is short."""
    found = re.search(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.S)
    assert found is not None and len(found[1].splitlines()) <= MOST_LINES
    return found[1]


def _walked(say: Say, folder: Path, page: str, given: Path) -> tuple[str, pd.DataFrame]:
    """Inspect what is given, then train and ask as the page says; return what was said first, and the niches."""
    code, seen, err = say("inspect", given)
    assert code == 0, err
    config = folder / "walk.yaml"
    config.write_text(_yaml(page))
    small = ["--set", "training.epochs=2", "--set", "model.latent=6", "--quiet"]
    code, _, err = say("train", config, "--out", folder / "run", *small)
    assert code == 0, err
    code, _, err = say("query", folder / "run", "niches", "--k", 3, "--out", folder / "niches.csv")
    assert code == 0, err
    return seen, pd.read_csv(folder / "niches.csv")


def test_own_h5ad_of_two_sections(tmp_path: Path, say: Say) -> None:
    rng = np.random.default_rng(0)
    xy, stripe = rng.random((600, 2)) * 600, np.zeros(600, int)
    stripe = np.minimum(xy[:, 0] // 200, 2).astype(int)
    profile = 1 + 3 * np.kron(np.eye(3), np.ones(10))
    counts = rng.poisson(profile[stripe] / profile[stripe].sum(axis=1, keepdims=True) * 150).astype(np.float32)
    library = np.repeat(["A", "B"], 300)
    obs = pd.DataFrame({"library_id": library, "mouse": np.where(library == "A", "m1", "m2")})
    obs["cell_type"], obs.index = np.array(["x", "y", "z"])[stripe], [f"{one}_{i}" for i, one in enumerate(library)]
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(30)]))
    table.obsm["spatial"] = xy
    table.write_h5ad(tmp_path / "study.h5ad")
    seen, niches = _walked(say, tmp_path, "h5ad.md", tmp_path / "study.h5ad")
    assert "all by `sections_by: library_id`" in seen and niches["section"].value_counts().tolist() == [300, 300]
    assert pd.crosstab(niches["niche"], niches["label"]).max(axis=1).sum() > 0.6 * len(niches)


def test_a_geo_download_of_visium(tmp_path: Path, say: Say) -> None:
    (tmp_path / "GSE000_S1").mkdir()
    seen, niches = _walked(say, tmp_path, "geo-visium.md", geo_visium(tmp_path / "GSE000_S1"))
    assert "spacing_um: 100" in seen and "faults: none" in seen
    assert len(niches) == 144 and niches["section"].unique().tolist() == ["S1"]


def test_a_cosmx_folder(tmp_path: Path, say: Say) -> None:
    seen, niches = _walked(say, tmp_path, "cosmx.md", write_cosmx(some_cells(200), tmp_path / "cosmx", "Lung5"))
    assert "platform: CosMx" in seen and "168 counts of 2 fields lie in no cell" in seen
    assert len(niches) == 200 and niches["node"].str.match(r"Lung5:[12]_\d+$").all()
    assert say("export", tmp_path / "run", "--to", "geojson", "--out", tmp_path / "qupath")[0] == 0


def test_a_table_of_imaging_mass_cytometry(tmp_path: Path, say: Say) -> None:
    cells = some_cells(100)
    table = intensities(cells).assign(Object=np.arange(100) + 1, area=cells.area_um2)
    table[["centroid-0", "centroid-1"]] = cells.xy_um[:, ::-1]
    images = [table.assign(Image=f"ROI{i:02d}", case=f"donor{i}") for i in range(3)]
    pd.concat(images).to_csv(tmp_path / "objects.csv", index=False)
    seen, niches = _walked(say, tmp_path, "imc.md", tmp_path / "objects.csv")
    assert "markers: DNA1, CD3, CD8, PanCK, Ki67, SMA" in seen and "for each of the 3 images" in seen
    assert niches["section"].value_counts().to_dict() == {"ROI00": 100, "ROI01": 100, "ROI02": 100}
