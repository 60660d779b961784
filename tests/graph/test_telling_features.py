"""Genes by which the types of a reference differ are kept beside the most variable ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.features import telling_features
from aivc_graph.graph.panels import panel
from tests.reference import GENES, cells_of, reference_section, spot_section, spots_of


def test_what_one_type_has_alone_tells_most_and_what_all_share_least() -> None:
    counts = np.array([[90, 5, 5, 900], [90, 5, 5, 900], [5, 90, 5, 900], [5, 5, 5, 900], [0, 0, 5000, 0]], np.float32)
    kind = np.array([0, 0, 1, 2, -1])  # the last has no type: what it has tells nothing
    assert set(telling_features(sparse.csr_matrix(counts), kind, 2)) == {0, 1}
    assert telling_features(sparse.csr_matrix(counts), kind, 9).tolist()[2:] in ([2, 3], [3, 2])


def test_how_many_cells_a_type_has_does_not_matter() -> None:
    cells, labels = cells_of()
    kind = np.unique(labels, return_inverse=True)[1]
    often = np.repeat(np.arange(len(kind)), np.where(kind == 0, 5, 1))
    first, other = (telling_features(sparse.csr_matrix(cells[rows]), kind[rows], 20) for rows in (slice(None), often))
    np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("labelled", [True, False])
def test_genes_that_tell_types_apart_are_kept_at_both_levels_beside_a_reference(labelled: bool) -> None:
    """One gene of the spots is unlike Poisson, and few of the telling ones: variable alone would keep that."""
    counts, (cells, labels) = spots_of(platform=0.0)[0], cells_of()
    telling = telling_features(sparse.csr_matrix(cells), np.unique(labels, return_inverse=True)[1], 8)
    counts[:, telling] = np.random.default_rng(0).poisson(3.0, (len(counts), 8))  # they vary least among spots
    reference = reference_section(cells, labels if labelled else np.full(len(labels), ""))
    graph = build_graph(
        [spot_section("s1", counts), reference], GraphConfig(edges={"patch": {"kind": "knn", "k": 4}}, n_genes=8)
    )
    kept = {GENES[one] for one in telling}
    there = [kept <= set(panel(graph, level, "rna")) for level in ("cell", "patch")]
    assert there == [True, True] if labelled else there != [True, True]
    assert all(len(panel(graph, level, "rna")) <= 16 for level in ("cell", "patch"))
