"""Expression of a gene that was not measured: told from what is known of it, with an interval, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.prior import Prior
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig

GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}})
Maker = Callable[..., Any]


@pytest.fixture(scope="module")
def tissue(striped_section: Maker, tmp_path_factory: pytest.TempPathFactory) -> VirtualTissue:
    """Genes of a stripe interact; NEW is known to interact with those of the first, ODD with nobody measured."""
    pairs = [(f"G{10 * k + i}", f"G{10 * k + j}") for k in range(3) for i in range(10) for j in range(i)]
    pairs += [("NEW", f"G{i}") for i in range(10)] + [("ODD", "STRANGE")]
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(sign=0.0, weight=1.0)
    prior = Prior("interacts", table, {"file": "i.csv", "layout": "columns", "sha256": "0" * 64})
    graph = build_graph([striped_section("s1", n=500)], GRAPH, [prior])
    folder = tmp_path_factory.mktemp("run")
    model = fit(graph, ModelConfig(latent=4, rings=(6,)), TrainingConfig(epochs=0, device="cpu"), folder)
    return VirtualTissue(graph, model)


def test_it_is_high_where_the_genes_it_interacts_with_are(tissue: VirtualTissue) -> None:
    answer = tissue.expression(genes=["NEW", "G0", "ODD"], at="cell")
    assert list(answer.var_names) == ["G0", "NEW", "ODD"] and answer.var["measured"].tolist() == [True, False, False]
    new, stripe = np.asarray(answer[:, "NEW"].X).ravel(), answer.obs["label"].to_numpy()
    assert new[stripe == "stripe 0"].mean() > 1.5 * new[stripe != "stripe 0"].mean()
    lower, upper = (np.asarray(answer[:, "NEW"].layers[key]).ravel() for key in ("lower", "upper"))
    assert (lower < new).all() and (new < upper).all()
    assert np.isnan(np.asarray(answer[:, "G0"].layers["lower"])).all()
    assert np.isnan(np.asarray(answer[:, "NEW"].layers["measured"])).all()
    assert answer.uns["unmeasured"]["opening"] > 0.5


def test_a_measured_gene_is_answered_as_without_any_prior_asked(tissue: VirtualTissue) -> None:
    both, alone = (tissue.expression(genes=genes, at="cell") for genes in (["G3", "NEW"], ["G3"]))
    np.testing.assert_array_equal(both[:, "G3"].X, alone.X)
    assert tissue.expression(at="cell").n_vars == 30


def test_of_niches_its_interval_is_of_the_gene(tissue: VirtualTissue) -> None:
    table = tissue.expression(genes=["G0", "NEW"], at="niche", k=3)
    own = table[table["gene"] == "NEW"]
    assert len(own) == 3 and (own["interval_over"] == "gene").all() and own["measured"].isna().all()
    assert (own["lower"] < own["expected"]).all() and (own["expected"] < own["upper"]).all()
    measured = table[table["gene"] == "G0"].set_index("niche")["expected"]
    assert measured.corr(own.set_index("niche")["expected"]) > 0.9


def test_it_may_be_asked_alone(tissue: VirtualTissue) -> None:
    both = tissue.expression(genes=["G0", "NEW"], at="cell")
    np.testing.assert_array_equal(tissue.expression(genes=["NEW"], at="cell").X, both[:, "NEW"].X)
    table = tissue.expression(genes=["NEW"], at="niche", k=3)
    assert table["gene"].tolist() == ["NEW"] * 3 and table["expected"].notna().all()


def test_a_gene_of_which_nothing_is_known_is_refused_by_name(tissue: VirtualTissue) -> None:
    with pytest.raises(QueryError, match="NOWHERE"):
        tissue.expression(genes=["NEW", "NOWHERE"], at="cell")


def test_other_tissue_asked_of_the_run_knows_what_the_run_knew(
    tissue: VirtualTissue, striped_section: Maker, tmp_path: Path
) -> None:
    elsewhere = tissue.on(build_graph([striped_section("s2", n=300, seed=5, donor="d2")], GRAPH))
    new = np.asarray(elsewhere.expression(genes=["NEW"], at="cell").X).ravel()
    stripe = elsewhere.graph.obs("cell")["label"].to_numpy()
    assert new[stripe == "stripe 0"].mean() > 1.3 * new[stripe != "stripe 0"].mean()
