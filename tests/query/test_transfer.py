"""Labels of cells with RNA told of cells with chromatin alone: through true links, and through none that are true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from aivc_graph.config import Config
from aivc_graph.errors import ModelError, QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.section import add_observation
from aivc_graph.training.settings import TrainingConfig
from tests.fitting import model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}})
NEAR = ("peak", "near", "gene")


def chromatin(section: Any, seed: int) -> Any:
    """Return the section with two peaks a gene, open as the gene is expressed, in place of its RNA."""
    rna = section.tables.pop("cell_rna")
    open_ = np.random.default_rng(seed).poisson(0.5 * np.repeat(rna.X.toarray(), 2, axis=1))
    table = ad.AnnData(sparse.csr_matrix(open_.astype(np.float32)))
    table.obs_names = rna.obs["barcode"].astype(str)
    table.var_names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(open_.shape[1])]
    add_observation(section, "cell", "atac", table)
    return section


def linked(graph: TissueGraph, seed: int | None = None) -> TissueGraph:
    """Lead each peak to its gene, or, given a seed, to one at random of as many links."""
    gene, peak = (graph.obs(kind).index for kind in ("gene", "peak"))
    of = np.array([int(name.split(":")[1].split("-")[0]) // 2000 for name in peak])
    of = of if seed is None else np.random.default_rng(seed).permutation(of)
    links = sparse.csr_matrix((np.ones(len(of), np.float32), (gene.get_indexer([f"G{i}" for i in of]), range(len(of)))))
    graph[NEAR].adj_t = to_torch_csr(links)
    return graph


@pytest.fixture(scope="module")
def sections(striped_section: Callable[..., Any]) -> list[Any]:
    """Two sections with RNA, and two of other donors with chromatin."""
    made = [striped_section(f"s{i}", n=150, seed=i, donor=f"d{i}") for i in range(4)]
    return [*made[:2], *(chromatin(one, seed) for seed, one in enumerate(made[2:]))]


@pytest.fixture(scope="module")
def tissue(sections: list[Any]) -> VirtualTissue:
    graph = linked(build_graph(sections, EDGES))
    return VirtualTissue(graph, model_of(graph, ModelConfig(latent=3, rings=(4, 8))))


def on(tissue: VirtualTissue, graph: TissueGraph) -> VirtualTissue:
    return VirtualTissue(graph, tissue.model)


def right(answer: ad.AnnData) -> float:
    return float((answer.obs["told"].astype(str) == answer.obs["label"].astype(str)).mean())


def test_labels_are_carried_by_what_links_peaks_to_genes(tissue: VirtualTissue, sections: list[Any]) -> None:
    answer = tissue.ask("transfer")
    assert set(answer.obs["section"]) == {"s2", "s3"} and answer.n_obs == 300
    np.testing.assert_allclose(answer.X.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(answer.X.max(axis=1), answer.obs["probability"], rtol=1e-5)
    assert right(answer) > 0.85
    sure = answer.obs["probability"] > 0.9
    assert right(answer[sure]) > right(answer[~sure])
    rewired = [right(on(tissue, linked(build_graph(sections, EDGES), seed)).ask("transfer")) for seed in range(2)]
    assert max(rewired) < 0.6


def test_labels_of_chromatin_are_told_of_rna(tissue: VirtualTissue) -> None:
    answer = tissue.ask("transfer", of="atac", to="rna")
    assert set(answer.obs["section"]) == {"s0", "s1"} and right(answer) > 0.85


def test_an_answer_does_not_hang_on_the_order_of_sections(tissue: VirtualTissue, sections: list[Any]) -> None:
    one = tissue.ask("transfer")
    other = on(tissue, linked(build_graph(sections[::-1], EDGES))).ask("transfer")[one.obs_names]
    assert (other.obs["told"].astype(str) == one.obs["told"].astype(str)).all()
    np.testing.assert_allclose(other.X, one.X, atol=0.04)


def test_the_table_holds_the_probability_of_every_label(tissue: VirtualTissue) -> None:
    from aivc_graph.query.questions.transfer import TransferQuestion

    asked = TransferQuestion()
    table = asked.as_table(asked.answer(tissue))
    assert {"section", "barcode", "told", "probability", "stripe 0", "stripe 1", "stripe 2"} <= set(table)


def test_nodes_without_a_label_carry_none(tissue: VirtualTissue) -> None:
    label = tissue.graph.obs("cell")["label"].copy()
    try:
        tissue.graph.obs("cell")["label"] = label.where(label != "stripe 1")
        assert list(tissue.ask("transfer").var_names) == ["stripe 0", "stripe 2"]
    finally:
        tissue.graph.obs("cell")["label"] = label


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"column": "lable"}, r"transfer · cell: expected one of .*label.*, found no column 'lable'"),
        ({"to": "protein"}, r"found no counts of 'protein' \(counted: atac, rna\); name them by --of and --to"),
        ({"of": "rna", "to": "rna"}, r"expected two modalities, found 'rna' twice; of rna alone, .* types`"),
    ],
)
def test_what_cannot_be_asked_is_told(tissue: VirtualTissue, options: dict[str, str], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        tissue.ask("transfer", **options)


def test_without_links_it_says_what_to_give(tissue: VirtualTissue, sections: list[Any]) -> None:
    with pytest.raises(QueryError, match=r"found no relation between genes and peaks in the graph; give one under"):
        on(tissue, build_graph(sections, EDGES)).ask("transfer")
    few = linked(build_graph(sections, EDGES))
    links = few[NEAR].adj_t.to_dense()
    links[5:] = 0
    few[NEAR].adj_t = links.to_sparse_csr()
    with pytest.raises(QueryError, match="expected at least 20, found 5 genes with a peak that leads to them"):
        on(tissue, few).ask("transfer")


def test_a_run_is_trained_on_nodes_of_which_none_has_both(sections: list[Any], tmp_path: Path) -> None:
    """What is known of molecules leads one modality into the state of the other; links at random lead it astray."""
    config = Config(
        model=ModelConfig(latent=3, rings=(4, 8)), training=TrainingConfig(epochs=2, window_nodes=400, device="cpu")
    )
    agreement = []
    for seed in (None, 0):
        train(linked(build_graph(sections, EDGES), seed), config, tmp_path / f"run{seed}")
        run = VirtualTissue.load(tmp_path / f"run{seed}")
        label = run.graph.obs("cell")["label"].astype(str).to_numpy()
        z, atac = run.states["cell"].own, run.graph["cell"]["atac_mask"].numpy()
        middle = np.stack([z[~atac & (label == one)].mean(axis=0) for one in np.unique(label)])
        nearest = ((z[atac][:, None] - middle) ** 2).sum(axis=2).argmin(axis=1)
        agreement.append((np.unique(label)[nearest] == label[atac]).mean())
    assert agreement[0] > 0.8 and agreement[1] < agreement[0] - 0.2
    assert right(VirtualTissue.load(tmp_path / "runNone").ask("transfer")) > 0.85


def test_without_links_training_says_what_would_do(sections: list[Any], tmp_path: Path) -> None:
    graph, config = build_graph(sections, EDGES), Config(training=TrainingConfig(epochs=0, device="cpu"))
    with pytest.raises(ModelError, match=r"found 0 training nodes with both rna and atac; .*genes and peaks.*priors"):
        train(graph, config, tmp_path / "run")
