"""Dense features: ridge to the state where something tells it, components elsewhere, and back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.measurement.gaussian import FeatureInput, GaussianMeasurement
from aivc_graph.operators.measurement.measurement import MeasurementPlan
from aivc_graph.operators.measurement.told_state import LEAST_PAIRS, told_state
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Fold, Inputs

N, FEATURES, LATENT = 120, 6, 3
RNG = np.random.default_rng(0)
STATE = RNG.normal(size=(N, LATENT))
BACK = RNG.normal(size=(LATENT, FEATURES))


def part(modality: str = "histology", level: str = "cell") -> GaussianMeasurement:
    names = tuple(f"f{i}" for i in range(FEATURES))
    return GaussianMeasurement(MeasurementPlan(level=level, modality=modality, names=names, latent=LATENT))


def features(noise: float = 0.0, mask: np.ndarray | None = None) -> FeatureInput:
    values = STATE @ BACK + noise * np.random.default_rng(1).normal(size=(N, FEATURES))
    known = torch.ones(N) if mask is None else torch.from_numpy(mask).float()
    standard = torch.from_numpy(values).float()
    return FeatureInput(standard, standard, torch.arange(N) % 4, known)


def window(
    data: FeatureInput, counted: np.ndarray | None, modality: str = "histology", overlap: torch.Tensor | None = None
) -> Any:
    """Return what a fit may look at: one window, whose state is told by counts of those `counted`, if of any."""
    by_part: dict[tuple[str, ...], Any] = {("measurement", "cell", modality): data}
    by_part["measurement", "patch", modality] = data
    first = None
    if counted is not None:
        by_part["measurement", "cell", "rna"] = SimpleNamespace(mask=torch.from_numpy(counted).float())
        state = torch.from_numpy(STATE).float()
        first = SimpleNamespace(
            slot=("cell", "rna"), plan=SimpleNamespace(modality="rna"),
            log_precision=torch.full((LATENT,), 6.0), encode=lambda _: state,
        )  # fmt: skip
    lifts = []
    if overlap is not None:
        by_part["relation", "cell", "within", "patch"] = SimpleNamespace(up=SparseOperator.of(overlap.to_sparse_csr()))
        lifts = [SimpleNamespace(slot=("cell", "patch"))]
    inputs = Inputs({}, {}, {}, {}, by_part)
    everyone = torch.ones(N)
    model = SimpleNamespace(
        parts_of=lambda kind: lifts if kind == "lift" else [],
        state_maker=lambda level: first if level == "cell" else None,
    )
    return SimpleNamespace(model=model, training=[Fold(inputs, {"cell": everyone, "patch": everyone})])


def test_features_lead_to_the_state_that_counts_tell_and_as_surely_as_they_do() -> None:
    made, data = part(), features(noise=0.02)
    made.fit_encoder(window(data, np.ones(N)))
    told = data.standard @ made.loading
    assert float((told - torch.from_numpy(STATE)).square().mean()) < 0.01
    noisy = part()
    noisy.fit_encoder(window(features(noise=2.0), np.ones(N)))
    assert bool((made.log_precision > noisy.log_precision + 2).all())


def test_only_nodes_that_were_counted_say_where_features_lead() -> None:
    counted = np.arange(N) < N // 2
    data = features()
    spoilt = FeatureInput(
        torch.where(torch.from_numpy(counted)[:, None], data.standard, 9.0), data.observed, data.section, data.mask
    )
    found, other = part(), part()
    found.fit_encoder(window(data, counted))
    other.fit_encoder(window(spoilt, counted))
    torch.testing.assert_close(found.loading, other.loading)


def test_without_counts_features_lead_to_their_own_components() -> None:
    made, data = part(), features(noise=0.1)
    made.fit_encoder(window(data, None))
    torch.testing.assert_close(made.loading.t() @ made.loading, torch.eye(LATENT), atol=1e-5, rtol=0)
    spread = (data.standard @ made.loading).square().sum(dim=0)
    assert bool((spread[:-1] >= spread[1:]).all())
    assert float(spread.sum()) > 0.98 * float(data.standard.square().sum())


@pytest.mark.parametrize("counted", [np.ones(N), None])
def test_the_state_leads_back_to_the_features_and_the_rest_is_their_spread(counted: np.ndarray | None) -> None:
    made, data = part(), features(noise=0.3)
    fitting = window(data, counted)
    made.fit_encoder(fitting)
    made.fit_decoder(fitting)
    z = torch.from_numpy(STATE).float() if counted is not None else data.standard @ made.loading
    said = made.likelihood(z, data)
    left = data.standard - said.mean().detach()
    assert float(left.square().mean()) < 0.15
    torch.testing.assert_close(said.log_scale.exp(), left.std(dim=0, unbiased=False), rtol=0.05, atol=0.01)


def test_before_it_is_fitted_the_prediction_is_the_mean_of_the_section() -> None:
    made, data = part(), features()
    assert not made.encode(data).any() and not made.likelihood(torch.randn(N, LATENT), data).mean().any()
    nobody = features(mask=np.zeros(N))
    fitting = window(nobody, np.ones(N))
    made.fit_encoder(fitting)
    made.fit_decoder(fitting)
    assert not made.loading.any() and not made.weight.any()


def test_log_expression_beside_counts_of_other_nodes_is_refused() -> None:
    made, few = part("log_expression"), np.arange(N) < LEAST_PAIRS
    with pytest.raises(ModelError, match=r"cell · log_expression.*fewer than 10 training nodes with both rna and"):
        made.fit_encoder(window(features(), few, "log_expression"))
    part().fit_encoder(window(features(), few))  # of tiles alone it is components again


def test_windows_over_cells_are_told_by_the_mean_of_their_cells() -> None:
    overlap = torch.zeros(N, N)
    for p in range(N // 2):
        overlap[p, 2 * p] = overlap[p, 2 * p + 1] = 0.5
    counted = np.arange(N) > 1  # of the first patch no cell was counted
    rows = [np.arange(N // 2)]
    found = told_state("patch", window(features(), counted, overlap=overlap), rows)
    assert found is not None
    state, measured, noise = found
    assert noise == 0.0 and not measured[0] and measured[1:].all()
    np.testing.assert_allclose(state[1:], STATE.reshape(-1, 2, LATENT).mean(axis=1)[1:], atol=1e-5)
    assert told_state("patch", window(features(), counted), rows) is None  # nothing leads there


def test_features_are_read_in_units_of_their_section() -> None:
    graph, values = TissueGraph(), torch.randn(8, FEATURES)
    values[3, 2] = torch.nan
    graph["cell"].histology, graph["cell"].histology_mask = values, torch.arange(8) != 5
    graph["cell"].section_index = torch.arange(8) // 4
    mean, spread = torch.randn(2, FEATURES), torch.rand(2, FEATURES) + 0.5
    graph["section"]["cell_histology_mean"], graph["section"]["cell_histology_spread"] = mean, spread
    made = part()
    found = made.prepare(graph, "cpu")
    torch.testing.assert_close(found.observed[6], (values[6] - mean[1]) / spread[1])
    assert bool(torch.isnan(made.observation(found)[3, 2])) and float(found.standard[3, 2]) == 0.0
    assert found.mask.tolist() == [1, 1, 1, 1, 1, 0, 1, 1]
