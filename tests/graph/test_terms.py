"""The terms values are compared in do not depend on the depth of a node, stay sparse, and lead back to shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.graph.terms import in_terms, shares_of

COUNTS = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(0.5, 20.0, 40), (30, 40)).astype(np.float32)


def test_protein_is_told_as_centred_log_ratio() -> None:
    found = in_terms(sparse.csr_matrix(COUNTS), "protein", 1.0)
    assert sparse.issparse(found) and found.nnz == np.count_nonzero(COUNTS)
    mean = np.exp(np.log1p(COUNTS).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found.toarray(), np.log1p(COUNTS / mean), rtol=1e-5)


@pytest.mark.parametrize("modality", ["rna", "atac"])
def test_other_counts_are_told_at_one_depth(modality: str) -> None:
    one, other = (in_terms(sparse.csr_matrix(factor * COUNTS), modality, 500.0).toarray() for factor in (1, 3))
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("modality", ["rna", "protein"])
def test_terms_lead_back_to_shares(modality: str) -> None:
    shares = COUNTS / COUNTS.sum(axis=1, keepdims=True)
    back = shares_of(in_terms(sparse.csr_matrix(COUNTS), modality, 500.0).toarray(), modality, 500.0)
    np.testing.assert_allclose(back, shares, atol=1e-5)


def test_features_are_as_they_are() -> None:
    assert in_terms(COUNTS, "log_expression", 1.0) is COUNTS
