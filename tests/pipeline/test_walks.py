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
