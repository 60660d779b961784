"""Shares of composition open where other sections support them, and stay shut where nothing is to gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.anchors import AnchorConfig
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.composition.anchors import Anchors
from aivc_graph.operators.composition.composition import CompositionProject
from aivc_graph.operators.composition.composition_fit import (
    choose_shares,
    divergence,
    efficiency,
    fit_calibration,
    fit_composition,
    fit_profiles,
)
from tests.fitting import fitting_of, fold_of, model_of
from tests.operators.parts import composition

TYPES, GENES, CELLS, SECTIONS, PATCHES = 3, 20, 8, 4, 60


def anchors(efficiency_spread: float, seed: int = 0, *, noise: bool = True) -> Anchors:
    """Return anchors of four sections that share one platform efficiency, with patches of eight cells."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.5, 4.0, (TYPES, GENES))
    platform = np.exp(rng.normal(0, efficiency_spread, GENES))
    numbers = rng.multinomial(CELLS, rng.dirichlet(np.full(TYPES, 0.7), SECTIONS * PATCHES)).astype(float)
    numbers = numbers.reshape(-1, TYPES)
    pooled = rng.poisson(numbers @ profiles).astype(float)
    rate = 20 * (numbers @ profiles) * platform
    n_cells = 50.0 if noise else 1e9
    expected = n_cells * np.tile(profiles, (SECTIONS, 1, 1))
    sums = rng.poisson(expected).astype(float) if noise else expected
    group = np.repeat(np.arange(SECTIONS), PATCHES)
    counts = rng.poisson(rate).astype(float) if noise else rate
    near = sparse.csr_matrix((len(group), len(group)), dtype=np.float32)
    return Anchors(counts, pooled, numbers / CELLS, group, near, sums, np.full((SECTIONS, TYPES), n_cells))


def chosen(found: Anchors) -> CompositionProject:
    operator = composition(TYPES, GENES)
    with torch.no_grad():
        choose_shares(operator, found, torch.full((GENES,), 5.0))
    return operator


def test_shared_efficiency_is_recovered_and_used() -> None:
    found = anchors(0.8)
    assert float(chosen(found).efficiency_share) > 0
    rng_truth = anchors(0.8, noise=False)
    log_ratio = efficiency(rng_truth.counts, rng_truth.pooled)
    assert np.corrcoef(log_ratio, efficiency(found.counts, found.pooled))[0, 1] > 0.99


def test_nothing_to_gain_leaves_least_squares() -> None:
    operator = chosen(anchors(0.0, noise=False))
    assert float(operator.calibration_share) == float(operator.neighbour_share) == 0.0


def test_where_counts_say_nothing_the_mean_composition_takes_over() -> None:
    found = anchors(0.5)
    shuffled = Anchors(**{**found.__dict__, "counts": np.random.default_rng(1).permutation(found.counts)})
    operator = chosen(shuffled)
    fit_calibration(operator, shuffled)
    assert float(operator.calibration_share) == 1.0
    answers = operator(torch.from_numpy(shuffled.counts).float()).numpy()
    np.testing.assert_allclose(answers.mean(axis=0), found.measured.mean(axis=0), atol=0.02)
    assert answers.std(axis=0).max() < 0.5 * found.measured.std(axis=0).max()


def test_one_group_decides_nothing() -> None:
    found = anchors(0.8)
    alone = Anchors(**{**found.__dict__, "group": np.zeros(len(found.group), int)})
    operator = chosen(alone)
    assert all(float(p) == 0 for name, p in operator.named_buffers() if name.endswith("_share"))


def test_what_is_fitted_never_sees_the_group_left_out() -> None:
    found = anchors(0.5)
    changed = Anchors(**{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in found.__dict__.items()})
    changed.counts[found.group == 2] *= 7
    changed.pooled[found.group == 2] += 3
    changed.cell_sums[2] *= 5
    theta = torch.zeros(GENES)
    fitted = [fit_profiles(composition(TYPES, GENES), part, theta, without=2) for part in (found, changed)]
    for name in ("profiles", "log_efficiency"):
        torch.testing.assert_close(getattr(fitted[0], name), getattr(fitted[1], name))
    whole = fit_profiles(composition(TYPES, GENES), changed, theta)
    assert not torch.equal(whole.profiles, fitted[1].profiles)


@pytest.mark.parametrize(("a", "b", "bits"), [((1, 0), (0, 1), 1.0), ((0.5, 0.5), (0.5, 0.5), 0.0)])
def test_divergence_of_known_pairs(a: tuple[float, float], b: tuple[float, float], bits: float) -> None:
    found = divergence(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    assert float(found[0]) == pytest.approx(bits, abs=1e-9)


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_few_anchors_leave_least_squares_on_the_profiles_of_types(
    striped_section: Callable[..., Any], share: float
) -> None:
    section = striped_section("s", n=400, levels=("cell", "patch"))
    config = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}}, anchors=AnchorConfig(share=share))
    graph = build_graph([section], config)
    model = model_of(graph, ModelConfig(latent=3, rings=(4, 8)))
    operator = model.part("composition", "cell", "patch")
    fit_composition(operator, fitting_of(graph, model, [fold_of(graph, model)]))
    told = operator(graph.counts("patch", "rna").to_dense())
    true = graph.obs("patch")["label"].astype(str).to_numpy()
    assert (np.array(operator.plan.types)[told.argmax(dim=1).numpy()] == true).mean() > 0.9
    if share < 1:
        assert not float(operator.calibration_share) and not float(operator.efficiency_share)


def test_no_anchor_says_nothing_of_the_platform() -> None:
    np.testing.assert_array_equal(efficiency(np.zeros((0, 4)), np.zeros((0, 4))), np.zeros(4))
