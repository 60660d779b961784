"""Counts of two modalities in the same molecules: who leads to whom, whichever is named first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.operators.links import Links
from aivc_graph.tissue.section import add_observation

PEAKS = 40


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    """Thirty genes and forty peaks, of which peak i leads to gene i where there is one."""
    section = striped_section("s", n=80)
    table = ad.AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (80, PEAKS)).astype(np.float32)))
    table.obs_names = section.tables["cell_rna"].obs["barcode"].astype(str)
    table.var_names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(PEAKS)]
    add_observation(section, "cell", "atac", table)
    found = build_graph([section])
    gene, peak = (list(found.obs(kind).index) for kind in ("gene", "peak"))
    pairs = [(gene.index(f"G{i}"), peak.index(f"chr1:{1000 * i}-{1000 * i + 500}")) for i in range(25)]
    links = sparse.csr_matrix((np.ones(25, np.float32), tuple(zip(*pairs, strict=True))), (len(gene), len(peak)))
    found["peak", "near", "gene"].adj_t = to_torch_csr(links)
    return found


def test_both_orders_of_the_names_give_the_same_links(graph: TissueGraph) -> None:
    one, two = Links.of(graph, "cell", "rna", "atac"), Links.of(graph, "cell", "atac", "rna")
    assert one is not None and two is not None
    assert (one.told_in, one.other, one.number) == (two.told_in, two.other, two.number) == ("rna", "atac", 25)
    assert (one.weight != two.weight).nnz == 0


def test_counts_are_told_in_the_molecules_that_are_led_to(graph: TissueGraph) -> None:
    links = Links.of(graph, "cell", "rna", "atac")
    assert links is not None
    rng = np.random.default_rng(1)
    peaks = rng.poisson(2.0, (7, PEAKS)).astype(np.float32)
    told = links.logs({"rna": rng.poisson(2.0, (5, 30)).astype(np.float32), "atac": peaks})
    assert told["rna"].shape == (5, 25) and told["atac"].shape == (7, 25)
    led = peaks @ np.asarray(links.weight.todense()).T
    led = led[:, np.asarray(links.weight.sum(axis=1)).ravel() > 0]
    depth = np.median(led.sum(axis=1))
    np.testing.assert_allclose(
        told["atac"].toarray(), np.log1p(depth * led / led.sum(axis=1, keepdims=True)), rtol=1e-5
    )


def test_without_a_relation_there_are_no_links(striped_section: Callable[..., Any]) -> None:
    assert Links.of(build_graph([striped_section("s", n=60)]), "cell", "rna", "atac") is None
