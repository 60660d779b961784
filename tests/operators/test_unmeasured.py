"""A gene that was not measured is told from genes alike, as far as left-out genes support it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.graph.known import Known
from aivc_graph.operators.measurement.unmeasured import tell_unmeasured

LATENT, FAMILIES, EACH = 4, 5, 12


def planted(seed: int = 0) -> tuple[Known, np.ndarray, np.ndarray]:
    """Return genes in families with alike vectors, linked within them; the last of each family was not measured."""
    rng = np.random.default_rng(seed)
    family = np.repeat(np.arange(FAMILIES), EACH)
    weight = rng.normal(size=(FAMILIES, LATENT))[family] + 0.2 * rng.normal(size=(len(family), LATENT))
    linked = (family[:, None] == family) & (rng.random((len(family), len(family))) < 0.4)
    np.fill_diagonal(linked, False)
    genes = pd.Index([f"G{i}" for i in range(len(family))])
    known = Known(genes, {"interacts": sparse.csr_matrix(linked.astype(float))}, np.zeros((len(family), 0)))
    return known, weight, np.arange(len(family)) % EACH == EACH - 1


def test_it_is_told_from_its_neighbours_and_a_shuffled_prior_says_the_mean() -> None:
    known, weight, hidden = planted()
    panel, asked = list(known.genes[~hidden]), list(known.genes[hidden])
    errors = {}
    for kind in ("true", "shuffled", "none"):
        told = tell_unmeasured(known.control(kind, 0), panel, weight[~hidden], np.zeros(len(panel)), asked)
        assert kind != "none" or (told.opening, told.variance) == (0.0, {})
        errors[kind] = ((told.weight - weight[hidden]) ** 2).mean()
        if kind == "true":
            assert told.opening > 0.9 and told.variance["interacts"] > 0
            ratio = ((told.weight - weight[hidden]) ** 2).mean() / told.error.mean()
            assert 0.2 < ratio < 5  # left-out genes say how wrong it is
    flat = ((weight[~hidden].mean(axis=0) - weight[hidden]) ** 2).mean()
    assert errors["true"] < 0.4 * flat
    assert errors["none"] == pytest.approx(flat)
    assert errors["shuffled"] < 1.2 * flat


def test_a_weak_prior_is_let_through_in_part() -> None:
    openings = []
    for seed in range(6):
        known, weight, hidden = planted(seed)
        weight = weight + 2.5 * np.random.default_rng(seed).normal(size=weight.shape)
        asked, panel = list(known.genes[hidden]), list(known.genes[~hidden])
        openings.append(tell_unmeasured(known, panel, weight[~hidden], np.zeros(len(panel)), asked).opening)
    assert 0.0 < np.mean(openings) < 0.9 and max(openings) < 1.0


def test_vectors_alone_tell_it_too() -> None:
    known, weight, hidden = planted()
    rng = np.random.default_rng(1)
    vectors = weight @ rng.normal(size=(LATENT, 6)) + 0.1 * rng.normal(size=(len(weight), 6))
    blind = Known(known.genes, {}, vectors)
    told = tell_unmeasured(
        blind, list(known.genes[~hidden]), weight[~hidden], np.zeros((~hidden).sum()), list(known.genes[hidden])
    )
    flat = ((weight[~hidden].mean(axis=0) - weight[hidden]) ** 2).mean()
    assert told.variance["describes"] > 0 and ((told.weight - weight[hidden]) ** 2).mean() < 0.5 * flat


def test_the_farther_a_state_the_wider_and_never_narrower_than_levels_differ() -> None:
    known, weight, hidden = planted()
    profile = np.linspace(-3, 3, (~hidden).sum())
    told = tell_unmeasured(known, list(known.genes[~hidden]), weight[~hidden], profile, list(known.genes[hidden]))
    log, spread = told.log_shares(np.array([np.zeros(LATENT), np.full(LATENT, 3.0)]))
    np.testing.assert_allclose(log[0], 0.0, atol=1e-12)
    assert spread[0, 0] == pytest.approx(profile.std()) and (spread[1] > spread[0]).all()
    np.testing.assert_allclose(log[1], 3 * told.weight.sum(axis=1))
