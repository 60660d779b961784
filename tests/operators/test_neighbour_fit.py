"""What neighbours tell of a hidden node: the baseline is nested, and what is fitted does not lose to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import Scene
from aivc_graph.evaluation.baselines.neighbours import neighbour_mean
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.operators.prediction.count_law import set_dispersion, set_rate
from aivc_graph.operators.prediction.neighbour_fit import Seen, _set_levels, _set_shares
from aivc_graph.query.predictions import (
    expected,
    expected_log_expression,
    measured_log_expression,
)
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.operators.parts import neighbours

CONFIG = ModelConfig(latent=3, rings=(6, 18))


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    sections = [striped_section("a", n=700, donor="d1"), striped_section("b", n=700, seed=1, donor="d2")]
    return build_graph(sections, GraphConfig(edges={"cell": {"kind": "knn", "k": 18}}))


def _fit(graph: TissueGraph, model: TissueModel, rows: np.ndarray, stages: tuple[str, ...] = AFTER_TRAINING) -> None:
    fold = fold_of(graph, model, {"cell": rows})
    fit_stages(fitting_of(graph, model, [fold], [fold]), stages)


def _hidden(graph: TissueGraph, share: float) -> np.ndarray:
    return np.random.default_rng(5).random(int(graph["cell"].num_nodes)) < share


def _mean(graph: TissueGraph, model: TissueModel, hidden: np.ndarray, k: int) -> np.ndarray:
    section, pos = graph["cell"].section_index.numpy(), graph["cell"].pos.numpy()
    target = measured_log_expression(model, graph, "cell")
    found = neighbour_mean(Scene(target, ~hidden, ~hidden, hidden, section, pos), k)
    assert found is not None
    return found


@pytest.mark.parametrize(("weight", "k"), [((1.0, 0.0), 6), ((1.0, 1.0), 18)])
def test_the_mean_of_neighbours_is_nested(graph: TissueGraph, weight: tuple[float, float], k: int) -> None:
    model = model_of(graph, CONFIG)
    hidden = np.zeros(int(graph["cell"].num_nodes), bool)
    hidden[[3, 350, 900]] = True  # far apart: all their neighbours are visible, as the baseline's are
    readout = model.part("prediction", "cell", "rna")
    with torch.no_grad():
        readout.ring_weight.copy_(torch.tensor(weight))
        readout.said_share.zero_()
        readout.neighbour_share.fill_(1.0)
    left = hide_observations(graph, {("cell", "rna"): hidden})
    said = expected_log_expression(model, left, "cell", hidden)
    np.testing.assert_allclose(said, _mean(graph, model, hidden, k), atol=1e-5)


def test_what_was_fitted_beats_the_mean_of_neighbours_and_is_as_good_as_the_state(graph: TissueGraph) -> None:
    model, train = model_of(graph, CONFIG), (graph["cell"].section_index == 0).numpy()
    _fit(graph, model, train, BEFORE_TRAINING)
    asked = _hidden(graph, 0.25) & ~train
    left = hide_observations(graph, {("cell", "rna"): asked})
    true = measured_log_expression(model, graph, "cell", asked)

    def error(said: np.ndarray) -> float:
        return float(((said - true) ** 2).mean())

    parts = tuple(part for part in model.plan.parts if part.kind != "prediction")
    old = TissueModel(model.plan.model_copy(update={"parts": parts})).eval()
    old.load_state_dict(model.state_dict(), strict=False)
    alone = expected_log_expression(old, left, "cell", asked)
    np.testing.assert_array_equal(expected_log_expression(model, left, "cell", asked), alone)
    _fit(graph, model, train)
    fitted = error(expected_log_expression(model, left, "cell", asked))
    around = min(error(_mean(graph, model, asked, k)) for k in (6, 18))
    # Three stripes are all there is, and the state has three components: neighbours can add nothing to it.
    assert fitted < 0.98 * around and fitted < 1.01 * error(alone)
    told = expected(model, left, "cell", asked)
    shares = told.shares.numpy()
    counts = np.expm1(true) / float(model.count_operator("cell", "rna").target_depth)
    np.testing.assert_allclose(shares.sum(axis=1).mean(), 1.0, atol=0.03)
    np.testing.assert_allclose(shares.mean(axis=0), counts.mean(axis=0), rtol=0.2)


def test_a_standard_error_over_sections_is_taken_off_the_share_of_the_state() -> None:
    rng, own = np.random.default_rng(3), np.array([0.2, 0.4, 0.6, 0.8])
    section = np.repeat(np.arange(4), 300)
    said, around = rng.normal(size=(1200, 5)), rng.normal(size=(1, 1200, 5))
    measured = own[section][:, None] * said + 0.1 * around[0]
    seen = Seen(said, around, np.ones((1, 1200)), measured, np.full(1200, 50.0), section)
    readout = neighbours(5, 1)
    with torch.no_grad():
        _set_shares(readout, [seen])
    error = np.std(own, ddof=1) / np.sqrt(4)
    assert readout.said_share.item() == pytest.approx(0.5 - error, abs=0.03)


def test_where_neighbours_tell_nothing_they_are_not_followed(striped_section: Callable[..., Any]) -> None:
    section = striped_section("a", n=700, structure=False)
    graph = build_graph([section], GraphConfig(edges={"cell": {"kind": "knn", "k": 18}}))
    model = model_of(graph, CONFIG)
    _fit(graph, model, np.ones(700, bool))
    assert model.part("prediction", "cell", "rna").neighbour_share.item() < 0.1


def test_fewer_edges_than_rings_hold_are_enough(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("a")], GraphConfig(edges={"cell": {"kind": "knn", "k": 5}}))
    model = model_of(graph, CONFIG)
    _fit(graph, model, np.ones(400, bool))
    assert model.part("prediction", "cell", "rna").neighbour_share.item() > 0.5


def test_counts_of_nodes_not_fitted_on_do_not_move_the_fit(graph: TissueGraph) -> None:
    changed = hide_observations(graph, {})
    relation, fitted = ("gene", names.OBSERVED_IN, "cell"), (graph["cell"].section_index == 0).numpy()
    counts = to_scipy_csr(graph[relation].adj_t).tolil()
    counts[~fitted] = counts[~fitted][:, ::-1]
    changed[relation].adj_t = to_torch_csr(counts.tocsr())
    found = []
    for one in (graph, changed):
        model = model_of(one, CONFIG)
        _fit(one, model, fitted)
        found.append(model.part("prediction", "cell", "rna").state_dict())
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


def test_hidden_counts_scatter_as_they_were_drawn(striped_section: Callable[..., Any]) -> None:
    section, rng = striped_section("a", n=900, structure=False), np.random.default_rng(0)
    true = np.repeat([0.8, 4.0], 15)
    table = section.tables["cell_rna"]
    table.X = type(table.X)(rng.poisson(8.0 * rng.gamma(true, 1 / true, table.shape)).astype(np.float32))
    graph = build_graph([section], GraphConfig(edges={"cell": {"kind": "knn", "k": 18}}))
    model = model_of(graph, CONFIG)
    _fit(graph, model, np.ones(900, bool))
    found = model.part("prediction", "cell", "rna").log_dispersion.detach().exp().numpy()
    # Shares of a total that scatters with its parts scatter a little less than the parts.
    np.testing.assert_allclose(np.median(found[:15]), 0.8, rtol=0.25)
    np.testing.assert_allclose(np.median(found[15:]), 4.0, rtol=0.25)


def test_what_a_section_did_not_measure_counts_for_nothing() -> None:
    rng, section = np.random.default_rng(4), np.repeat(np.arange(2), 400)
    there = np.ones((800, 6), bool)
    there[400:, :2] = False
    said, around = rng.normal(1.0, 0.5, (800, 6)), rng.normal(1.0, 0.5, (1, 800, 6))
    measured = np.where(there, np.maximum(0.3 * said + 0.5 * around[0] + 0.1 * rng.normal(size=(800, 6)), 0), 0)
    fits = []
    for garbage in (0.0, 3.0):
        values = [np.where(there, one, garbage * rng.random((800, 6))) for one in (said, around[0], measured)]
        seen = Seen(values[0], values[1][None], np.ones((1, 800)), values[2], np.full(800, 50.0), section, there)
        readout = neighbours(6, 1)
        with torch.no_grad():
            _set_shares(readout, [seen])
            _set_levels(readout, [seen])
            set_rate(readout, [seen])
            set_dispersion(readout, [seen], np.zeros(6))
        fits.append({name: buffer.clone() for name, buffer in readout.named_buffers()})
    for name, buffer in fits[0].items():
        torch.testing.assert_close(buffer, fits[1][name])
    # As far as the shares of the two sections differ is taken off that of the state.
    assert float(fits[0]["said_share"] + fits[0]["neighbour_share"]) == pytest.approx(0.8, abs=0.06)


def test_a_molecule_that_no_neighbour_measured_leaves_the_others_as_they_are() -> None:
    rng, section = np.random.default_rng(5), np.zeros(400, np.int64)
    said, around = rng.normal(1.0, 0.5, (400, 6)), rng.normal(1.0, 0.5, (1, 400, 6))
    measured = np.maximum(0.6 * around[0] + 0.1 * rng.normal(size=(400, 6)), 0)
    there = np.ones((400, 6), bool)
    there[:, 5] = False
    found = []
    for genes in (6, 5):
        one = [values[..., :genes] for values in (said, around, measured, there)]
        readout = neighbours(genes, 1)
        with torch.no_grad():
            _set_shares(
                readout, [seen := Seen(one[0], one[1], np.ones((1, 400)), one[2], np.ones(400), section, one[3])]
            )
            _set_levels(readout, [seen])
        found.append(readout.factor.numpy())
    assert found[0][5] == 1.0
    np.testing.assert_allclose(found[0][:5], found[1], rtol=1e-4)
