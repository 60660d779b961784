"""One modality told from another becomes a valid ``evaluation.json``; what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.pipeline.evaluate_tables import evaluate_table
from aivc_graph.report.write import write_scored_table
from tests.pipeline.screens import values


def test_a_pairing_tells_one_modality_from_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state = rng.normal(size=(160, 3))
    donor = np.repeat(["d1", "d2"], 80).tolist()
    for name, k in (("rna", 30), ("protein", 8)):
        x = state @ np.random.default_rng(k).normal(size=(3, k)) + 0.1 * rng.normal(size=(160, k))
        made = ad.AnnData(x, obs=pd.DataFrame({"donor": donor}, index=[f"c{i}" for i in range(160)]))
        made.write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    found = evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    rows = values(found)
    assert {predictor for _, predictor in rows} == {
        "model",
        "global_mean",
        "ridge",
        "kernel_ridge_of_features",
        "knn_of_features",
    }
    assert rows["pearson_by_gene", "ridge"] > 0.9 and rows["foscttm", "ridge"] < 0.05
    assert rows["rmse", "ridge"] < 0.3 * rows["rmse", "global_mean"]
    # Nothing is to be found beyond ridge here; that eighty cells choose the weights costs a little.
    assert rows["rmse", "model"] < 1.03 * rows["rmse", "ridge"]
    assert {one.a for one in found.comparisons} <= {"model"}
    (tmp_path / "p.yaml").write_text(text.replace("[d2]", "[d3]"))
    with pytest.raises(ConfigError, match="no donor named 'd3'"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")


def test_cells_of_one_donor_under_the_name_of_another_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rna, protein = rng.poisson(4.0, (80, 30)).astype(float), rng.normal(size=(80, 12))
    rna[60:] = rna[:20]
    obs = pd.DataFrame({"donor": np.repeat(["d1", "d2"], 40)}, index=[f"c{i}" for i in range(80)])
    for name, x in (("rna", rna), ("protein", protein)):
        ad.AnnData(x, obs=obs).write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    told = r"d2 holds the same cells \(20\) as d1, which trains \(rna.h5ad\)"
    with pytest.raises(ReadError, match=told):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    rna[60:] *= 1.01
    ad.AnnData(rna, obs=obs).write_h5ad(tmp_path / "rna.h5ad")
    with pytest.raises(ReadError, match=told):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    rna[60:] = rna[:20]
    ad.AnnData(rna, obs=obs).write_h5ad(tmp_path / "rna.h5ad")
    found = evaluate_table(tmp_path / "p.yaml", tmp_path / "out", ["pairing.share_content=true"])
    assert len(found.leakage["accepted"]) == 1 and found.leakage["by_split"] == {"test": 0.5}
    assert found.leakage["optimism"]["cell"]["profile"]["gap"] is not None
    assert found.card["data"]["donors"] == {"train": ["d1"], "test": ["d2"]}
    write_scored_table(tmp_path / "out")
    assert "Card of these scores" in (tmp_path / "out/report.html").read_text()
    other = ad.AnnData(protein, obs=obs.assign(donor="d3"))
    other.write_h5ad(tmp_path / "protein.h5ad")
    with pytest.raises(ReadError, match="80 cells of another donor than in rna"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")


@pytest.mark.parametrize("spoilt", ["rna", "protein"])
def test_a_pairing_needs_finite_values_of_two_modalities(tmp_path: Path, spoilt: str) -> None:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": ["d1", "d2"] * 10}, index=[f"c{i}" for i in range(20)])
    for name in ("rna", "protein"):
        made = ad.AnnData(rng.normal(size=(20, 3)), obs=obs)
        made.X[4, 2] = np.nan if name == spoilt else 1.0
        made.write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(
        ReadError, match=rf"{spoilt}.h5ad: expected finite values, found 1 that .* such as 2 of cell c4"
    ):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    (tmp_path / "p.yaml").write_text(text.replace("protein", "rna"))
    with pytest.raises(ConfigError, match=r"found the same content as in `given`, .*rna\.h5ad"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
