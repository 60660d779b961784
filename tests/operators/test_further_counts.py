"""Proteins and chromatin beside RNA: one state, whichever of them a node was measured by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from aivc_graph.config import Config
from aivc_graph.errors import ModelError, QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.train import train
from aivc_graph.tissue.section import add_observation
from aivc_graph.training.settings import TrainingConfig

GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 12}, "patch": {"kind": "knn", "k": 6}})
CONFIG = Config(model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=2, device="cpu"))


def add_counts(section: Any, modality: str, features: int, depth: float) -> None:
    """Add counts whose features rise in the section's stripes by turns."""
    stripe = section.shapes["cell"]["label"].str[-1].astype(int).to_numpy()
    rate = 1.0 + 5.0 * (np.arange(features)[None, :] % 3 == stripe[:, None])
    counts = np.random.default_rng(7).poisson(depth * rate / features)
    table = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    table.obs_names, table.var_names = section.shapes["cell"].index, [f"{modality}{i}" for i in range(features)]
    add_observation(section, "cell", modality, table)


@pytest.mark.parametrize(("modality", "features", "depth"), [("protein", 12, 60.0), ("atac", 90, 30.0)])
def test_a_section_without_rna_has_the_niches_of_one_that_has_both(
    striped_section: Callable[..., Any], tmp_path: Path, modality: str, features: int, depth: float
) -> None:
    sections = [striped_section(name, n=300, seed=i) for i, name in enumerate(("both", "rna", "other"))]
    for section in (sections[0], sections[2]):
        add_counts(section, modality, features, depth)
    del sections[2].tables["cell_rna"]
    tissue = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").tissue
    niches = tissue.niches(k=3).obs
    assert adjusted_rand_score(niches["label"], niches["niche"].astype(str)) > 0.75
    inputs = tissue.model.prepare(tissue.graph)
    states = []
    with torch.no_grad():
        for of in ("rna", modality):
            states.append(tissue.model.count_operator("cell", of).encode(inputs.measured("cell", of)).numpy())
    both = (tissue.graph.obs("cell")["section"] == "both").to_numpy()
    rna, found = states[0][both], states[1][both]
    # Only what the stripes do is in both; over a stripe the counting noise of single cells goes.
    stripe = tissue.graph.obs("cell")["label"].to_numpy()[both]
    middle = [np.stack([state[stripe == s].mean(axis=0) for s in np.unique(stripe)]) for state in (rna, found)]
    assert np.linalg.norm(middle[1] - middle[0]) < 0.3 * np.linalg.norm(middle[0])
    expected = tissue.expression(["G0", "G15"], at="cell")
    other = (expected.obs["section"] == "other").to_numpy()
    stripe = expected.obs["label"].to_numpy()
    assert np.isnan(expected.layers["measured"][other]).all()
    high = expected.X[other & (stripe == "stripe 0"), 0].mean()
    assert high > 1.5 * expected.X[other & (stripe == "stripe 2"), 0].mean()


def test_modalities_that_no_node_ties_together_are_refused(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    sections = [striped_section(name, n=60, seed=i) for i, name in enumerate(("rna", "protein"))]
    add_counts(sections[1], "protein", 12, 60.0)
    del sections[1].tables["cell_rna"]
    with pytest.raises(ModelError, match=r"cell · protein: expected at least 10.*found 0 training nodes with both"):
        train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run")


def test_without_any_rna_there_are_niches_and_expression_is_of_what_was_counted(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    section = striped_section("alone", n=300)
    add_counts(section, "atac", 30, 60.0)
    del section.tables["cell_rna"]
    tissue = train(build_graph([section], GRAPH), CONFIG, tmp_path / "run").tissue
    niches = tissue.niches(k=3).obs
    assert adjusted_rand_score(niches["label"], niches["niche"].astype(str)) > 0.6
    told = tissue.expression()
    assert told.n_obs == len(niches) and set(told.var_names) == {f"atac{i}" for i in range(30)}
    with pytest.raises(QueryError, match="no RNA was measured at any level of this tissue"):
        tissue.expression(modality="rna")
